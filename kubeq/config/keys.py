"""The one table of what can be set: the fields of Config.

Parsing, `kubeq config`, docs/configuration.md and the defaults of the command line's options follow from it. A key's
environment variable is `KUBEQ_` and its name in capitals. How the layers are put together is in `load`.
"""

# ruff: noqa: RUF009  (`key` makes a dataclass field; a list of words is easier to read)
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from kubeq.config import container_values, defaults, machine_values, values
from kubeq.config.key import Derived, Key, key
from kubeq.config.machine_keys import MachineKeys
from kubeq.config.values import Place
from kubeq.core.machines import Volume
from kubeq.core.resources import Resources, parse_resources
from kubeq.core.spec import Mount, Network
from kubeq.nodes.open import PROVIDERS

PUBLIC_IMAGE = "python:3.12-slim"
"""What a task runs in when nobody names an image: the official Python image of one minor version, on Debian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(MachineKeys):
    """Every setting of one run. Frozen; values of the environment are not in its `repr`."""

    state_dir: Path = key(
        values.path,
        Derived("`$XDG_STATE_HOME/kubeq`, else `~/.local/state/kubeq`", defaults.state_dir),
        "Directory of the embedded queue and store, of node logs and of the journal.",
    )
    cache_dir: Path = key(
        values.path,
        Derived("`$XDG_CACHE_HOME/kubeq`, else `~/.cache/kubeq`", defaults.cache_dir),
        "Directory of what can be made again: input digests, the nodes' input cache.",
    )
    hosts: tuple[str, ...] = key(
        values.text, None, "The user's own hosts: `[user@]host[:port]`, or a file with one a line.", many=True
    )
    ssh_user: str | None = key(values.text, None, "User on hosts for which neither the list nor ~/.ssh/config has one.")
    ssh_identity: Path | None = key(values.path, None, "Private key for the first login; else an agent's and ~/.ssh's.")
    ssh_known_hosts: Path | None = key(values.path, None, "File of host keys in place of those that OpenSSH reads.")
    ssh_host_keys: str = key(
        values.choice("strict", "accept-new"),
        "strict",
        "What happens with a host whose key nobody knows; a changed key is always refused.",
    )
    default_url_prefix: str = key(
        values.store_url,
        Derived("`file://STATE_DIR/store`", defaults.store_url),
        "Where results and logs are stored.",
    )
    cas_url_prefix: str = key(
        values.store_url,
        Derived("`default_url_prefix`", defaults.blobs_url),
        "Where inputs are stored, by their content.",
    )
    project: str | None = key(
        machine_values.place_name,
        Derived("with `gs://`: that of `gcloud`", defaults.project),
        "Google Cloud project of the queue.",
    )
    region: str | None = key(
        machine_values.place_name,
        Derived("that of `aws` or `gcloud`", defaults.region),
        "Region in which queue and store are made, in the cloud's words.",
    )
    queue_url: str = key(
        values.queue_url,
        Derived(
            "`sqlite:STATE_DIR/queue.db`; with `s3://` `dynamodb://REGION/kubeq`, with `gs://` `datastore://PROJECT`",
            defaults.queue_url,
        ),
        "Where jobs and tasks are recorded.",
    )
    provider: str = key(
        values.choice(*sorted(PROVIDERS)),
        Derived("`ssh` with `hosts`, `ec2` with `s3://`, `gce` with `gs://`, else `local`", defaults.provider),
        "Where nodes come from.",
    )
    default_image: str = key(values.text, PUBLIC_IMAGE, "Image of tasks when the submission names none.")
    consumer_image: str = key(
        values.text,
        "kubeq-consumer",
        "Image of the agent, for machines that run it from one; without a tag, the tag of this kubeq.",
    )
    default_resource_cpu: float = key(values.cpu, "1", "Cores of a task when the submission asks for none.")
    default_resource_memory: int | None = key(
        values.memory, None, "Memory of a task when the submission asks for none; without it memory is not limited."
    )
    lease_s: float = key(values.term, "120s", "How long a claim holds without being renewed.", name="lease")
    linger_s: float = key(
        values.duration,
        "600s",
        "How long one node of a pool waits for more work.",
        name="linger",
    )
    linger_others_s: float = key(
        values.duration,
        Derived("`linger`, at most `60s`", defaults.linger_others),
        "How long the other nodes of a pool wait for more work.",
        name="linger_others",
    )
    poll_s: float = key(
        values.duration,
        Derived("`250ms`; `3s` where the queue is not on this machine", defaults.poll),
        "How often an idle node looks for work.",
        name="poll",
    )
    loss_limit: int = key(values.whole(0, 1000), "5", "How many attempts of a task may be lost with their node.")
    log_limit: int = key(values.size, "100M", "How much output of one attempt is kept.")
    output: str = key(values.choice("text", "json", "csv", "quiet"), "text", "Form of the answer.")
    color: str = key(values.choice("auto", "always", "never"), "auto", "Colours on stderr.")

    name: str | None = key(values.job_name, None, "Name of the job.", in_environment=False)
    image: str = key(
        values.text,
        Derived("`default_image`", defaults.default_image),
        "Image that tasks run in; `none` runs them on the node itself.",
    )
    runtime: str = key(values.choice("docker", "process"), "docker", "How a node runs a command.")
    entrypoint: tuple[str, ...] | None = key(
        container_values.entrypoint, None, "Entrypoint in place of the image's; `image` keeps the image's."
    )
    resources: str | None = key(values.resources, None, "What a task needs: `cpu=1,memory=2G,gpu=1`.")
    upload: tuple[str, ...] = key(
        values.text, None, "Inputs, `SRC[:DST]` or `@LIST`; always relative to the current directory.", many=True
    )
    params: tuple[Path, ...] = key(values.path, None, "Parameter tables; several make a product.", many=True)
    seq: str | None = key(values.numbers, None, "Fan out over numbers: `N` or `A-B[:STEP]`.")
    stdin: bool = key(values.flag, "no", "Fan out over the lines of stdin; their words follow the command's.")
    cd: str = key(container_values.directory, ".", "Directory below the work directory in which the command starts.")
    env: tuple[tuple[str, str], ...] = key(
        container_values.variable,
        None,
        "Variables for the command, `NAME=VALUE` or `NAME` (its value here).",
        many=True,
    )
    env_file: tuple[Path, ...] = key(values.path, None, "Files with a variable a line.", many=True)
    user: str | None = key(container_values.user, None, "User inside the container: NAME, UID or UID:GID.")
    network: Network = key(container_values.network, "slot", "What network a container sees: slot, none, bridge, host.")
    shm_size: int | None = key(values.size, None, "Size of `/dev/shm` in the container.")
    mount: tuple[Mount, ...] = key(
        container_values.mount, None, "Directories of the node shown in the container, `SRC:DST[:ro]`.", many=True
    )
    shell: bool = key(values.flag, "no", "Run the command as one line for `/bin/sh`.")
    results: tuple[str, ...] = key(values.text, None, "Patterns of the files to keep; without any, all.", many=True)
    ignore: tuple[str, ...] = key(values.text, None, "Patterns of files not to keep.", many=True)
    timeout_s: float | None = key(values.duration, None, "How long one attempt may run.", name="timeout")
    retries: int = key(values.whole(0, 1000), "0", "How often a failed task is tried again.")
    allow_node_credentials: bool = key(
        values.flag, "no", "Let tasks on machines of a cloud act as the machine: `--network host` or `--image none`."
    )
    exclusive: bool = key(values.flag, "no", "Stop an attempt whose lease ends, even if nobody else has claimed it.")
    strikes: int = key(
        values.whole(0, 1000), "0", "After so many tasks that failed on a node one after another it leaves; 0: never."
    )
    pre: str | None = key(values.shell_line, None, "Shell line that every node runs once before its first attempt.")
    post: str | None = key(values.shell_line, None, "Shell line that every node runs once after its last attempt.")
    overlay: Path | None = key(
        values.path, None, "Directory whose content every node lays onto its own file system before its first attempt."
    )
    if_exists: str | None = key(
        values.choice("new", "skip", "abort"), None, "What to do when a job of that name exists: new, skip, abort."
    )
    nodes: int | None = key(
        values.whole(1, 1000), None, "How many nodes at most; without it one here, or one on each host."
    )
    local: bool = key(values.flag, "no", "Run in the foreground with a private pool on this machine.")
    no_wait: bool = key(values.flag, "no", "Return as soon as the job is submitted.")
    on_interrupt: str = key(values.choice("detach", "abort"), "detach", "What Ctrl-C does to the job.")
    fetch: Path | None = key(values.path, None, "Fetch results into this directory when the job has ended.")
    notify: tuple[str, ...] = key(
        values.hook,
        None,
        "Run with the report at the job's end: `sh: COMMAND`, `mail: FROM TO...`, `http: URL`, `py: FILE or CODE`.",
        many=True,
    )
    dry_run: bool = key(values.flag, "no", "Say what would be done, and store and start nothing.")
    prepare: bool = key(values.flag, "no", "Store everything, start no node, print the agent's command.")

    origins: Mapping[str, str] = field(repr=False)
    notes: tuple[str, ...]
    path: Path | None
    profile: str | None
    profiles: tuple[str, ...]
    place: Place = field(repr=False)

    @property
    def store_url(self) -> str:
        return self.default_url_prefix

    @property
    def blobs_url(self) -> str:
        return self.cas_url_prefix

    @property
    def machine_image(self) -> str | None:
        """The image that machines of the provider boot, if anybody named one."""
        return {"ec2": self.ec2_image, "gce": self.gce_image}.get(self.provider)

    @property
    def task_resources(self) -> Resources:
        """What a task asks for: `resources` over the two defaults."""
        default = Resources(cpu=self.default_resource_cpu, memory=self.default_resource_memory)
        return parse_resources(self.resources, default) if self.resources else default

    @property
    def container_image(self) -> str | None:
        """The image as it was named; None when tasks run without a container."""
        return None if self.runtime == "process" or self.image == "none" else self.image


def _key(member: dataclasses.Field[Any]) -> Key:
    about = member.metadata["key"]
    return Key(attribute=member.name, **(about | {"name": about["name"] or member.name}))


_OWN = [_key(member) for member in dataclasses.fields(Config) if "key" in member.metadata]
MACHINE_KEYS: Mapping[str, Key] = {each.name: each for each in map(_key, dataclasses.fields(MachineKeys))}
"""Those that say something only where machines are made."""
KEYS: Mapping[str, Key] = {**{each.name: each for each in _OWN if each.name not in MACHINE_KEYS}, **MACHINE_KEYS}


@dataclass(frozen=True, slots=True)
class Setting:
    """One key as it stands: its value for a reader (None: no value) and where that comes from."""

    name: str
    value: str | None
    origin: str


def settings(config: Config) -> list[Setting]:
    """Every key with its value and origin, in the order of the table; of variables only the names."""
    return [
        Setting(each.name, _shown(each, getattr(config, each.attribute)), config.origins[each.name])
        for each in KEYS.values()
    ]


def _shown(each: Key, value: Any) -> str | None:
    if value is None or (each.many and not value):
        return None
    if each.secret:
        return "\n".join(f"{name}=..." for name, _ in value)
    if each.parse in (values.duration, values.term):
        return f"{value:g}s" if value >= 1 else f"{1000 * value:g}ms"
    return "\n".join(map(_word, value)) if each.many else _word(value)


def _word(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return str(int(value)) if value.is_integer() else str(value)
        case tuple():
            return " ".join(value) or "image"
        case Volume():
            return f"{value.path}:{value.size}{f':{value.kind}' if value.kind else ''}"
        case Mount():
            return f"{value.source}:{value.target}{':ro' if value.read_only else ''}"
        case StrEnum():
            return value.value
        case _:
            return str(value)
