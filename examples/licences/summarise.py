#!/usr/bin/env python3
"""Prints a table over the fetched results: a line a text, the longest first, and what they have in common.

python3 summarise.py OUT
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEADINGS = ("file", "words", "distinct", "a sentence", "most frequent")


def results(out: Path) -> list[dict[str, Any]]:
    """What the tasks wrote, the longest text first."""
    found = [json.loads(path.read_text()) for path in out.glob("*/words.json")]
    return sorted(found, key=lambda result: (-result["words"], result["file"]))


def table(found: Sequence[dict[str, Any]]) -> str:
    """The results in aligned columns, numbers to the right."""
    rows = [HEADINGS]
    for r in found:
        top = ", ".join(entry["word"] for entry in r["top"][:5])
        rows.append((r["file"], str(r["words"]), str(r["distinct"]), str(r["words_a_sentence"]), top))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = []
    for name, *numbers, top in rows:
        aligned = [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *aligned, top]).rstrip())
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    found = results(Path(arguments[0]))
    if not found:
        print(f"no words.json below {arguments[0]}; fetch a job there first", file=sys.stderr)
        return 1
    print(table(found))
    shared = Counter(entry["word"] for result in found for entry in result["top"])
    word, texts = shared.most_common(1)[0]
    total = sum(result["words"] for result in found)
    print(f"\n{len(found)} texts, {total} words; '{word}' is among the ten most frequent of {texts} texts")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
