"""The options of `sub`, as one table. Every value is passed on as text: what it means is the configuration's to say.

An option's key is its long name; an option that was not given has no place in what `sub` is passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
ONE, MANY, FLAG, EITHER = "one", "many", "flag", "either"

OPTIONS = (
    ("-n --name", ONE, "NAME", "Name of the job. Default: the command's first file or word."),
    ("-i --image", ONE, "IMAGE", "Image to run in; `none`: no container, the command runs on the node itself."),
    ("--runtime", ONE, "docker|process", "How a node runs a command; `process` is the same as `--image none`."),
    ("-r --resources", ONE, "LIST", "What a task needs: cpu=1,memory=2G,gpu=1. A container gets no more than that."),
    (
        "-u --upload",
        MANY,
        "SRC[:DST]|@LIST",
        "Stage a file, a directory, a pattern or what a URL names; `@LIST`: a file of such lines.",
    ),
    (
        "--params",
        MANY,
        "FILE",
        "A task for every row of a table (csv, tsv, jsonl); {column} in the command is replaced.",
    ),
    ("--seq", ONE, "N|A-B[:STEP]", "A task for every number; {index} in the command is replaced."),
    ("--stdin", FLAG, "", "A task for every line of stdin; its words follow COMMAND, or are the command."),
    ("--cd", ONE, "DIR", "Directory below the work directory where the command starts."),
    ("-e --env", MANY, "NAME[=VALUE]", "A variable for the command; without VALUE its value here."),
    ("--env-file", MANY, "FILE", "A file with a variable a line."),
    ("--entrypoint", ONE, "CMD|image", "Entrypoint to put before the command; `image`: the image's own."),
    ("--user", ONE, "NAME|UID[:GID]", "User inside the container."),
    ("--network", ONE, "slot|none|bridge|host", "Network of the container; `slot`: a bridge that attempts take over."),
    (
        "--allow-node-credentials",
        FLAG,
        "",
        "Let tasks on machines of a cloud be such that they can act as the machine.",
    ),
    ("--shm-size", ONE, "SIZE", "Size of /dev/shm in the container."),
    ("--mount", MANY, "SRC:DST[:ro]", "Show a directory or file of the node in the container."),
    ("--shell", FLAG, "", "Run the words as one line of /bin/sh; values are put in quoted."),
    ("--results", MANY, "GLOB", "Keep only output files that match. Default: every new or changed file."),
    ("--ignore", MANY, "GLOB", "Keep no output file that matches."),
    ("--timeout", ONE, "DURATION", "Stop an attempt that runs longer (90, 5m, 1h30m). Default: none."),
    ("--retries", ONE, "N", "Try a failed task so many times more. Default: 0."),
    ("--strikes", ONE, "N", "A node on which N tasks fail one after another leaves. Default: 0, never."),
    ("--exclusive", FLAG, "", "Stop an attempt whose lease is about to end: no two attempts of a task overlap."),
    (
        "--pre",
        ONE,
        "CMD",
        "Shell line that every node runs once before its first attempt; if it fails, the node leaves.",
    ),
    (
        "--overlay",
        ONE,
        "DIR",
        "Lay what DIR holds onto every node's file system before --pre; deletes nothing there.",
    ),
    ("--post", ONE, "CMD", "Shell line that every node runs once after its last attempt, when it leaves."),
    ("--if-exists", ONE, "new|skip|abort", "What to do when a job of that name exists (see below)."),
    ("--hosts --workers", MANY, "LIST|FILE", "Run on these hosts of yours, over SSH: [user@]host[:port],..."),
    ("--ssh-identity", ONE, "FILE", "Private key for the first login to the hosts."),
    ("--nodes --split", ONE, "N", "At most so many nodes. Default: one here, or one on each host."),
    ("-m --machine-type", MANY, "TYPE", "Type of machine to make in a cloud; several are tried in order."),
    ("--zones", ONE, "LIST", "Zones for machines; without it, all of the region."),
    ("--spot/--no-spot", EITHER, "", "Machines that cost less and may be taken back, or ordinary ones."),
    ("--open-port", MANY, "PORT", "Open a port among the machines of the pool, to nobody else."),
    ("--lifetime", ONE, "DURATION", "How long a machine lives at most. Default: 24h."),
    ("--linger", ONE, "DURATION", "How long one node waits for more work. Default: 10m."),
    ("--local", FLAG, "", "Run here, in the foreground, with a node of its own; print every task's output."),
    ("--no-wait", FLAG, "", "Return as soon as the job is submitted."),
    ("--on-interrupt", ONE, "detach|abort", "What Ctrl-C does: leave the job running, or pause it and stop its nodes."),
    ("--fetch", ONE, "DIR", "Fetch the results into DIR when the job has ended."),
    (
        "--notify --report",
        MANY,
        "HOOK",
        "Run it with the report when the job has ended: sh: COMMAND, mail: FROM TO..., http: URL, py: FILE or CODE.",
    ),
    ("--dry-run", FLAG, "", "Say what would be done; store and start nothing."),
    ("--prepare", FLAG, "", "Store everything, start no node, print the command that starts one by hand."),
)


def sub_options(command: F) -> F:
    """The options of the table, as parameters named like their keys."""
    for names, kind, metavar, help in reversed(OPTIONS):
        words = names.split()
        match kind:
            case "flag":
                option = click.option(*words, is_flag=True, default=None, help=help)
            case "either":
                option = click.option(*words, default=None, help=help)
            case "many":
                option = click.option(*words, multiple=True, metavar=metavar, help=f"{help} Repeatable.")
            case _:
                option = click.option(*words, metavar=metavar, help=help)
        command = option(command)
    return command
