"""Defaults that follow from other values, from the environment, or from what a cloud's own tool is configured with.

Each gets the place of the configuration and the values known so far (by attribute, in the order of the table in
`keys`), and gives what would be typed, or None for no value. Which keys are required follows from the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from kubeq.config.clouds import COMMANDS, PROJECTS, REGIONS, Found
from kubeq.config.values import Place
from kubeq.core.model import Reach
from kubeq.core.table_rules import listing
from kubeq.errors import UsageError
from kubeq.nodes.open import BESIDE_STORES, HERE
from kubeq.queue.open import BESIDE, reach_of

POLL = {Reach.HOST: "250ms", Reach.NETWORK: "3s"}
"""A look at a table of this machine costs nothing; one over the network is a request that is paid for."""
LINGER_OTHERS_S = 60.0
"""How long the nodes of a pool wait for work when they are not the one that lingers."""
Known = Mapping[str, Any]


def state_dir(place: Place, known: Known) -> str:
    return str(_xdg(place, "XDG_STATE_HOME", ".local/state") / "kubeq")


def cache_dir(place: Place, known: Known) -> str:
    return str(_xdg(place, "XDG_CACHE_HOME", ".cache") / "kubeq")


def store_url(place: Place, known: Known) -> str:
    return (Path(known["state_dir"]) / "store").as_uri()


def blobs_url(place: Place, known: Known) -> str:
    return str(known["default_url_prefix"])


def provider(place: Place, known: Known) -> str:
    """A queue on this machine is served here, wherever the bytes lie."""
    if known["hosts"]:
        return "ssh"
    far = known["queue_url"] is not None and reach_of(known["queue_url"]) is Reach.NETWORK
    return BESIDE_STORES.get(_scheme(known), HERE) if far else HERE


def project(place: Place, known: Known) -> Found | None:
    lookup = PROJECTS.get(_scheme(known))
    return lookup(place) if lookup else None


def region(place: Place, known: Known) -> Found | None:
    lookup = REGIONS.get(_scheme(known))
    return lookup(place) if lookup else None


def queue_url(place: Place, known: Known) -> str | None:
    """The queue of the store's own cloud; None as long as a key that names it is missing."""
    beside = BESIDE.get(_scheme(known))
    if beside is None:
        return f"sqlite:{known['state_dir']}/queue.db"
    return None if _missing_keys(known) else beside.format_map(known)


def poll(place: Place, known: Known) -> str:
    return POLL[Reach.HOST if known["queue_url"] is None else reach_of(known["queue_url"])]


def linger_others(place: Place, known: Known) -> str:
    return f"{min(LINGER_OTHERS_S, known['linger_s']):g}s"


def default_image(place: Place, known: Known) -> str:
    return str(known["default_image"])


def check_complete(known: Known, path: Path | None) -> None:
    """Raises UsageError naming every key that is missing, and the file (None: there is none) to write it into."""
    missing = _missing_keys(known) if known["queue_url"] is None else []
    if not missing:
        return
    commands = [COMMANDS[_scheme(known), name] for name in missing]
    where = f"{path} lacks" if path else "there is no configuration file, and nothing else sets"
    raise UsageError(
        f"{where} the key{'s' * (len(missing) > 1)} {listing([repr(name) for name in missing])}, "
        f"without which no queue is known beside {known['default_url_prefix']}",
        hint=f"write {missing[0]} = VALUE into the file, or: {'; '.join(commands)}; or name a queue: queue_url = URL",
    )


def _missing_keys(known: Known) -> list[str]:
    """The keys that would name the queue beside the store and have no value."""
    needed = [name for _, name, _, _ in Formatter().parse(BESIDE.get(_scheme(known), "")) if name]
    return [name for name in needed if known[name] is None]


def _scheme(known: Known) -> str:
    return str(known["default_url_prefix"]).partition(":")[0]


def _xdg(place: Place, variable: str, fallback: str) -> Path:
    """A base directory; one that is not absolute is to be ignored (XDG Base Directory Specification 0.8)."""
    named = Path(place.environ.get(variable, ""))
    return named if named.is_absolute() else place.home / fallback
