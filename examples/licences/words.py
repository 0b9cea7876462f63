#!/usr/bin/env python3
"""Counts the words of a text file and writes what it found to words.json.

python3 words.py FILE
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n\s*\n")

# Words that every English text is full of, and that tell nothing about this one.
COMMON = """
    a all an and any are as at be been but by can do for from has have if in is it its may must no not of on only or
    other shall such than that the their them then there these they this those to under was which will with within
    without would you your
"""


def statistics(text: str) -> dict[str, object]:
    """The counts of a text: words, distinct ones, sentences and their mean length, the ten most frequent words."""
    words = [word.lower() for word in WORD.findall(text)]
    sentences = [s for s in SENTENCE_END.split(text) if WORD.search(s)]
    common = set(COMMON.split())
    telling = Counter(word for word in words if word not in common and len(word) > 1)
    return {
        "characters": len(text),
        "lines": text.count("\n"),
        "words": len(words),
        "distinct": len(set(words)),
        "sentences": len(sentences),
        "words_a_sentence": round(len(words) / max(1, len(sentences)), 1),
        "longest_word": max(words, key=len, default=""),
        "top": [{"word": word, "count": count} for word, count in telling.most_common(10)],
    }


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        return 1
    found = statistics(text)
    Path("words.json").write_text(json.dumps({"file": path.name, **found}, indent=2) + "\n")
    print(f"{path.name}: {found['words']} words, {found['distinct']} distinct, {found['words_a_sentence']} a sentence")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
