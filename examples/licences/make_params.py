#!/usr/bin/env python3
"""Writes params.csv with one row for each licence text that is installed on this machine.

    python3 make_params.py [DIRECTORY]

DIRECTORY is /usr/share/common-licenses, where Debian's package base-files puts them, unless given. Only regular
files count: `GPL` is a link to one of them, and would be counted twice.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

LICENCES = Path("/usr/share/common-licenses")


def main(arguments: Sequence[str]) -> int:
    directory = Path(arguments[0]).absolute() if arguments else LICENCES
    if not directory.is_dir():
        print(f"{directory} is not a directory; name one that holds text files", file=sys.stderr)
        return 1
    files = sorted(path for path in directory.iterdir() if path.is_file() and not path.is_symlink())
    if not files:
        print(f"{directory} holds no regular file", file=sys.stderr)
        return 1
    with Path("params.csv").open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["file"])
        writer.writerows([str(path)] for path in files)
    print(f"params.csv: {len(files)} files of {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
