"""The spec: what the user asked for before expansion, and how one task's command follows from it.

A placeholder is `{identifier}` naming a column, and only in a job that fans out; there `{{` writes `{`. Every other
brace is literal. A placeholder is replaced once: what stands in a cell is never looked at again. A command word whose
first character is `^` names a file to stage; `^^` writes a literal `^`. Reading parameter tables is `core.tables`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kubeq.core.digest import Digest
from kubeq.core.lines import LINE, words_of
from kubeq.core.manifest import clean_destination
from kubeq.core.resources import Resources
from kubeq.core.shell_line import ShellLine
from kubeq.errors import UsageError

PLACEHOLDER = re.compile(r"\{\{|\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Network(StrEnum):
    """What network a container sees. `slot` is a bridge namespace that successive attempts of one slot share."""

    SLOT = "slot"
    NONE = "none"
    BRIDGE = "bridge"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A directory or file of the node, shown inside the container at an absolute path."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """Everything about a job that is the same for all its tasks. Immutable; stored as a blob.

    `command` holds template words. `image` is what the user typed, `image_digest` what it was resolved to at submission
    (None when it could not be: then the first agent pins it); `image` None means no container. `entrypoint` None
    replaces the image's entrypoint by nothing, `()` keeps the image's, words set it. `inputs` is the manifest that all
    tasks share, for jobs whose tasks do not each have their own. `appends_line`: the words of a task's line (see
    `core.lines`) follow those of the command, which may have none. `allow_node_credentials`: on machines of a cloud the
    tasks may be such that the machine's own identity is open to them.
    """

    command: tuple[str, ...]
    columns: tuple[str, ...] = ()
    appends_line: bool = False
    shell: bool = False
    image: str | None = None
    image_digest: str | None = None
    entrypoint: tuple[str, ...] | None = None
    directory: str = "."
    environment: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    network: Network = Network.SLOT
    shm_size: int | None = None
    mounts: tuple[Mount, ...] = ()
    inputs: Digest | None = None
    results: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    resources: Resources
    timeout_s: float | None = None
    log_limit: int
    allow_node_credentials: bool = False

    @property
    def sees_node_credentials(self) -> bool:
        """Whether nothing stands between its tasks and the service from which a machine of a cloud has its identity."""
        return self.image is None or self.network is Network.HOST

    @property
    def fans_out(self) -> bool:
        return bool(self.columns)


def placeholders(word: str) -> list[str]:
    """The column names that a template word asks for, in order."""
    return [match[1] for match in PLACEHOLDER.finditer(word) if match[1]]


def fill(word: str, parameters: Mapping[str, str]) -> str:
    """The word with each placeholder replaced once by the task's value. Every name must be known."""
    return PLACEHOLDER.sub(lambda match: parameters[match[1]] if match[1] else "{", word)


def is_staged(template: str) -> bool:
    """Whether a template word names a file to stage (`^path`)."""
    return template.startswith("^") and not template.startswith("^^")


def destination_of(source: str) -> str:
    """Where a file named only by its source lands: a relative path stays as it is, an absolute one keeps its last part.

    Raises UsageError for a path that leaves the work directory.
    """
    if posixpath.isabs(source):
        return clean_destination(posixpath.basename(posixpath.normpath(source)))
    return clean_destination(source)


def command_of(spec: JobSpec, values: Sequence[str]) -> list[str]:
    """The task's argument vector: placeholders replaced, `^` words replaced by the place where their file is staged.

    A staged file as the first word, which is the program, becomes `./PLACE`: a bare name is looked up in PATH.
    With `--shell` the words become one line for /bin/sh. There a value never becomes part of the line: it is passed
    beside it, and the line refers to it, so that a value can never become code.
    """
    parameters = dict(zip(spec.columns, values, strict=True)) if spec.fans_out else None
    added = parameters[LINE] if spec.appends_line and parameters is not None else ""
    if not spec.shell:
        words = [_word_of(template, parameters, number == 0) for number, template in enumerate(spec.command)]
        return words + words_of(added)
    line = ShellLine()
    if not spec.command:
        line.add_text(added)  # the user's own shell line, not a value in one
        return line.command()
    for number, template in enumerate(spec.command):
        line.add_text(" " if number else "")
        _add_word(line, template, parameters, number == 0)
    for word in words_of(added):
        line.add_text(" ")
        line.add_value(word)
    return line.command()


def _word_of(template: str, parameters: Mapping[str, str] | None, first: bool) -> str:
    if is_staged(template):
        place = destination_of(template[1:] if parameters is None else fill(template[1:], parameters))
        return f"./{place}" if first else place
    word = template[1:] if template.startswith("^^") else template
    return word if parameters is None else fill(word, parameters)


def _add_word(line: ShellLine, template: str, parameters: Mapping[str, str] | None, first: bool) -> None:
    if is_staged(template):
        line.add_value(_word_of(template, parameters, first))
        return
    word = template[1:] if template.startswith("^^") else template
    if parameters is None:
        line.add_text(word)
        return
    position = 0
    for match in PLACEHOLDER.finditer(word):
        line.add_text(word[position : match.start()])
        if match[1]:
            line.add_value(parameters[match[1]])
        else:
            line.add_text("{")
        position = match.end()
    line.add_text(word[position:])


def check_template(words: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that no word uses. Raises UsageError for a placeholder that names no column."""
    used: set[str] = set()
    for word in words:
        for name in placeholders(word):
            if name not in columns:
                known = ", ".join(map(repr, columns))
                raise UsageError(
                    f"the word {word!r} asks for the unknown column {name!r}",
                    hint=f"the columns are: {known}; write {{{{{name}}} for literal braces",
                )
            used.add(name)
    return tuple(name for name in columns if name not in used)
