"""The plan of a submission: what the user typed, understood and checked. Reads files, asks what URLs name.

Nothing is stored. All bad input is refused here, before anything is hashed, read from the store or sent. Options come
as a Config, which has read each of them by itself; here they are held against each other and against the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from kubeq.actions.folders import check_cache_dir, check_destination
from kubeq.actions.inputs import Inputs, collect_inputs
from kubeq.actions.naming import default_name, is_job_id
from kubeq.actions.parameters import read_parameters
from kubeq.actions.program import carets_in_shell, check_program
from kubeq.actions.url_inputs import Look, look_outside
from kubeq.config import MACHINE_KEYS, Config, task_environment
from kubeq.core.images import check_image_name
from kubeq.core.lines import LINE, words_of
from kubeq.core.model import Policy, Reach
from kubeq.core.resources import Resources, fits
from kubeq.core.spec import JobSpec, check_template
from kubeq.core.table_rules import listing
from kubeq.core.tables import Table, empty_cells, repeated_rows, unusable_columns
from kubeq.errors import UsageError
from kubeq.machine import shows_engine
from kubeq.nodes.base import NodeProvider

NO_ISOLATION = (
    "without a container the commands run on the node itself, as the agent's user: they see its files and its network, "
    "and nothing limits their memory"
)
LONGEST_WORD = 131_071
"""Bytes of one argument: Linux takes 128 KiB with the final zero (MAX_ARG_STRLEN, execve(2))."""
LONGEST_COMMAND = 2_000_000
"""Bytes of all arguments: Linux takes 2 MiB with the environment (a quarter of the usual stack limit, execve(2))."""
_INSPECTED_ROWS = 1_000_000
"""Larger tables are not looked through for empty cells and repeated rows: the notes are not worth the seconds."""
_IN_CONTAINERS_ONLY = ("entrypoint", "user", "network", "shm_size", "mount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A submission that makes sense. `spec` has neither the image's digest nor the inputs' manifest yet; `named` says
    that the user chose the name.
    """

    name: str
    named: bool
    spec: JobSpec
    table: Table | None
    inputs: Inputs
    policy: Policy
    warnings: tuple[str, ...]

    @property
    def total(self) -> int:
        """How many tasks."""
        return 1 if self.table is None else len(self.table.rows)


def make_plan(
    command: Sequence[str],
    config: Config,
    provider: NodeProvider,
    lines: BinaryIO | None = None,
    look: Look = look_outside,
) -> Plan:
    """The plan of a submission to nodes of that provider.

    `lines` is where `--stdin` reads its tasks; `look` says what the URLs of inputs name. Raises UsageError for the
    first thing that is wrong, with all its instances; NotFound, Conflict, BackendError as `look` does.
    """
    if config.stdin and lines is None:
        raise UsageError("--stdin has no stdin to read", hint="pipe lines into it: seq 10 | kubeq sub --stdin echo")
    words = _check_command(command, needed=not config.stdin)
    _check_options(config)
    table = read_parameters(config.params, config.seq, lines if config.stdin else None)
    warnings = [] if table is None else _check_table(words, table, config)
    spec = _spec(words, table, config)
    _check_nodes(spec, provider, config)
    if spec.image is None:
        warnings.append(NO_ISOLATION)
    own = [config.state_dir, config.cache_dir]
    inputs = collect_inputs(config.upload, words, table, config.place.base, own=own, look=look)
    warnings += [*check_program(spec, inputs, table, config.place.base), *carets_in_shell(spec)]
    return Plan(
        name=default_name(words or _first_line(table)) if config.name is None else config.name,
        named=config.name is not None,
        spec=spec,
        table=table,
        inputs=inputs,
        policy=Policy(
            retries=config.retries,
            loss_limit=config.loss_limit,
            lease_s=config.lease_s,
            exclusive=config.exclusive,
            strikes=config.strikes,
        ),
        warnings=(*warnings, *inputs.warnings),
    )


def _spec(words: tuple[str, ...], table: Table | None, config: Config) -> JobSpec:
    image = config.container_image
    resources = config.task_resources
    return JobSpec(
        command=words,
        columns=() if table is None else table.columns,
        appends_line=config.stdin,
        shell=config.shell,
        image=image,
        entrypoint=config.entrypoint,
        directory=config.cd,
        environment=tuple(sorted(task_environment(config))),
        user=config.user,
        network=config.network,
        shm_size=config.shm_size,
        mounts=config.mount,
        results=tuple(_pattern(text, "--results") for text in config.results),
        ignore=tuple(_pattern(text, "--ignore") for text in config.ignore),
        resources=resources if image is not None else replace(resources, memory=None),
        timeout_s=config.timeout_s,
        log_limit=config.log_limit,
        allow_node_credentials=config.allow_node_credentials,
    )


def _check_nodes(spec: JobSpec, provider: NodeProvider, config: Config) -> None:
    """Whether a node can have what the tasks ask for."""
    given = [f"--{name.replace('_', '-')}" for name in MACHINE_KEYS if config.origins[name].startswith("--")]
    if given and (config.local or not provider.capabilities.costs_money):
        here = "--local" if config.local else f"the provider {provider.name!r}"
        raise UsageError(
            f"{listing(given)} would say nothing: {here} makes no machines",
            hint="leave it out, or name a provider that does: -o provider=ec2",
        )
    if provider.capabilities.costs_money and not config.local:
        _refuse_node_credentials(spec)
    check_fits(spec.resources, provider)
    if provider.capabilities.reach is Reach.HOST:
        missing = [mount.source for mount in spec.mounts if not Path(mount.source).exists()]
        if missing:
            raise UsageError(f"--mount shows what does not exist: {listing(missing)}", hint="make it first")
        _refuse_engine_socket(spec, config)
        if not config.prepare:
            check_cache_dir(config.cache_dir)


def check_fits(need: Resources, provider: NodeProvider) -> None:
    """Raises UsageError if the largest node of the provider is too small for a task, as far as that is known."""
    largest = provider.largest()
    if largest is not None and not fits(need, largest):
        raise UsageError(
            f"a task asks for {need}, and the largest node has {largest}",
            hint="ask for less: -r cpu=N,memory=SIZE",
        )


def _refuse_node_credentials(spec: JobSpec) -> None:
    """What agents on machines of a cloud refuse too: whoever reaches the machine's identity may do all that it may."""
    if spec.sees_node_credentials and not spec.allow_node_credentials:
        raise UsageError(
            f"with {'--image none' if spec.image is None else '--network host'} the tasks could act as the machine in "
            "the cloud: read and write all that its identity may",
            hint="leave it out, or say --allow-node-credentials",
        )


def _refuse_engine_socket(spec: JobSpec, config: Config) -> None:
    """What agents refuse too: whoever has a container engine's socket owns the machine."""
    named = config.place.environ.get("DOCKER_HOST", "").removeprefix("unix://")
    for mount in spec.mounts:
        if shows_engine(mount.source, [named] if named.startswith("/") else ()):
            raise UsageError(
                f"--mount {mount.source}:{mount.target} would show the container engine's socket to the task",
                hint="mount a directory that does not hold it",
            )


def _first_line(table: Table | None) -> tuple[str, ...]:
    """The words of the first task, where the lines are the whole commands."""
    return tuple(words_of(table.rows[0][-1])) if table is not None else ()


def _check_command(command: Sequence[str], *, needed: bool) -> tuple[str, ...]:
    if not command and not needed:
        return ()
    if not command or not command[0]:
        raise UsageError("nothing to run: there is no command", hint="give it after the options: kubeq sub echo hi")
    sizes = [len(word.encode(errors="surrogateescape")) for word in command]
    if max(sizes) > LONGEST_WORD or sum(sizes) > LONGEST_COMMAND:
        raise UsageError(
            f"the command is too long: {sum(sizes):,} bytes, its longest word {max(sizes):,}",
            hint=f"at most {LONGEST_COMMAND:,} and {LONGEST_WORD:,}; put it into a file and stage that: ^FILE",
        )
    for word in command:
        _check_text(word, "the word")
    return tuple(command)


def _check_options(config: Config) -> None:
    """Options that contradict each other, named in pairs."""
    pairs = (
        ("--no-wait", config.no_wait, "--fetch", config.fetch is not None),
        ("--local", config.local, "--no-wait", config.no_wait),
        ("--prepare", config.prepare, "--fetch", config.fetch is not None),
        ("--prepare", config.prepare, "--dry-run", config.dry_run),
        ("--runtime process", config.runtime == "process", f"--image {config.image}", _names_image(config)),
        ("--runtime docker", _names_docker(config), "--image none", config.image == "none"),
    )
    for one, has_one, other, has_other in pairs:
        if has_one and has_other:
            raise UsageError(f"{one} and {other} contradict each other", hint="leave one of them out")
    if config.name is not None and is_job_id(config.name):
        raise UsageError(f"--name {config.name} looks like the id of a job", hint="choose another name")
    if config.fetch is not None:
        check_destination(config.fetch, "--fetch")
    image = config.container_image
    if image is not None:
        check_image_name(image)
        return
    given = ["--" + name.replace("_", "-") for name in _IN_CONTAINERS_ONLY if config.origins[name] != "default"]
    if config.resources is not None and config.task_resources.memory != config.default_resource_memory:
        given.append("--resources memory=...")
    if given:
        raise UsageError(
            f"without a container there is no {listing(given)}", hint="leave it out, or name an image: --image IMAGE"
        )


def _names_docker(config: Config) -> bool:
    return config.runtime == "docker" and config.origins["runtime"] == "--runtime"


def _names_image(config: Config) -> bool:
    return config.image != "none" and config.origins["image"] == "--image"


def _check_table(words: Sequence[str], table: Table, config: Config) -> list[str]:
    """Warnings about the table. Raises UsageError for a placeholder that names no column."""
    counted = (*(() if config.seq is None else ("index",)), *((LINE,) if config.stdin else ()))
    unused = [name for name in check_template(words, table.columns) if name not in counted]
    unusable = [repr(name) for name in unusable_columns(table)]
    warnings = []
    if unused:
        warnings.append(f"no word of the command uses the column{'s' * (len(unused) > 1)} {listing(unused)}")
    if unusable:
        warnings.append(f"no placeholder can name {listing(unusable)}; rename to letters, digits and '_'")
    if config.params and not config.stdin and len(table.rows) <= _INSPECTED_ROWS:
        empty, repeated = empty_cells(table), repeated_rows(table)
        if empty:
            warnings.append(f"cells of the parameter table that are empty: {empty:,}")
        if repeated:
            warnings.append(
                f"rows of the parameter table that repeat an earlier one, each a task of its own: {repeated:,}"
            )
    return warnings


def _pattern(text: str, option: str) -> str:
    """A pattern over paths in the work directory."""
    if text.startswith("/") or ".." in text.split("/"):
        raise UsageError(
            f"{option} {text!r} is no pattern inside the work directory",
            hint="write for instance '*.png', 'out/**' or './top.txt'",
        )
    _check_text(text, option)
    return text


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} {text!r} is not valid UTF-8", hint="only the path of an input may be that") from error
