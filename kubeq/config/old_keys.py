"""The keys of kubeque and its descendants that have another name here, or none.

Which keys there are is in `keys`; that old files load is decided in `load`.
"""

# ruff: noqa: SIM905  (a list of words is easier to read)
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

RENAMED: Mapping[str, str] = {
    "bootdisksizegb": "boot_disk",
    "boot_volume_in_gb": "boot_disk",
    "boot_volume_type": "boot_disk_type",
    "preemptible": "spot",
    "worker_linger": "linger",
    "zone": "zones",
}
"""Names that mean a key of ours."""
_IN_GIGABYTES = frozenset({"bootdisksizegb", "boot_volume_in_gb"})
_SERVICE_ACCOUNT = ".gserviceaccount.com"
WITHOUT_MEANING = frozenset(
    "account cache_db_path debug_log_prefix gpu_count kubequeconsume_exe_path local_work_dir "
    "max_preemptable_attempts_scale monitor_port mount_count provision_mode pubsub_topic_prefix pubsub_topics "
    "service_account_key sparklesworker_image when_sub_job_exists work_root_dir".split()
)
"""Names that say nothing here: accepted, with a note. The account of a person is whoever calls."""
_DISK = re.compile(r"mount_[0-9]+_[a-z_]+")
_DISK_PART = re.compile(r"mount_(?P<number>[0-9]+)_(?P<part>path|size_in_gb|type)")
_USUAL_GIGABYTES = "100"
"""How big kubeque made a disk of which no size is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A key and its text as they are written today."""

    name: str
    text: str


def renamed(name: str, text: str) -> Renamed | None:
    """What an old key is today; None for one that is not old, or has no meaning."""
    if name == "account":
        return Renamed(name="node_identity", text=text) if text.endswith(_SERVICE_ACCOUNT) else None
    if name not in RENAMED:
        return None
    return Renamed(name=RENAMED[name], text=f"{text}G" if name in _IN_GIGABYTES else text)


def is_old(name: str) -> bool:
    """Whether it is one of these names."""
    return name in RENAMED or name in WITHOUT_MEANING or _DISK.fullmatch(name) is not None


def volumes_of(texts: Mapping[str, str]) -> str | None:
    """The disks of `mount_1_path` and its like, as `volumes` has them; None if there are none."""
    disks: dict[int, dict[str, str]] = {}
    for name, text in texts.items():
        if match := _DISK_PART.fullmatch(name):
            disks.setdefault(int(match["number"]), {})[match["part"]] = text
    lines = [
        ":".join((disk["path"], f"{disk.get('size_in_gb', _USUAL_GIGABYTES)}G", *filter(None, [disk.get("type")])))
        for _, disk in sorted(disks.items())
        if "path" in disk
    ]
    return "\n".join(lines) or None


def is_volume(name: str) -> bool:
    """Whether `volumes_of` reads a key of that name."""
    return _DISK_PART.fullmatch(name) is not None
