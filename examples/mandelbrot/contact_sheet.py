#!/usr/bin/env python3
"""Puts the fetched pictures of a sweep on one sheet, and on a page to open in a browser.

    python3 contact_sheet.py OUT [PARAMS]

OUT is what `kubeq fetch LAST OUT` filled: OUT/1/mandelbrot.png for the first row of PARAMS (params.csv beside
this script unless given), and so on. Writes OUT/contact-sheet.png and OUT/index.html. A row without a picture
leaves a gap and is named; the exit code is then 1.
"""

import csv
import html
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

COLUMNS = 6
GAP = 8  # pixels between pictures, which are shown at half their size
BACKGROUND = bytes((16, 16, 24))

Lines = Sequence[bytes]  # of a picture: three bytes a pixel

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ margin: 2rem; background: #101018; color: #c8c8d4; font: 15px/1.4 system-ui, sans-serif }}
h1 {{ font-weight: 300 }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 1.2rem }}
figure {{ margin: 0 }}
img {{ width: 100%; border-radius: 6px; display: block }}
.gap {{ aspect-ratio: 4 / 3; border: 1px dashed #555; display: grid; place-items: center }}
figcaption {{ margin-top: .4rem; font-size: 12px; color: #9090a0; font-variant-numeric: tabular-nums }}
b {{ color: #e8e8f0 }}
a {{ color: inherit }}
</style>
<h1>{title}</h1>
<main>
{figures}
</main>
</html>
"""

FIGURE = """<figure>
{picture}
<figcaption><b>{index}</b> centre {x_scale}, {y_scale} &middot; zoom {zoom}{files}</figcaption>
</figure>"""


def decode(path: Path) -> tuple[int, Lines]:
    """Width and lines of a PNG file as mandelbrot.py writes it: eight bits a channel, no filters."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{path} is not a PNG file")
    width = height = 0
    packed = b""
    for at in chunk_starts(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, *form = struct.unpack(">IIBBBBB", body)
            if form != [8, 2, 0, 0, 0]:
                raise ValueError(f"{path} is a PNG file of another kind than mandelbrot.py writes")
        elif kind == b"IDAT":
            packed += body
    raw = zlib.decompress(packed)
    stride = 3 * width + 1
    if len(raw) != stride * height or any(raw[::stride]):
        raise ValueError(f"{path} is damaged, or was not written by mandelbrot.py")
    return width, [raw[y * stride + 1 : (y + 1) * stride] for y in range(height)]


def chunk_starts(data: bytes) -> list[int]:
    """Where the chunks of a PNG file begin."""
    starts = []
    at = 8
    while at < len(data):
        starts.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return starts


def encode(lines: Lines) -> bytes:
    """A PNG file of these lines."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(lines[0]) // 3, len(lines), 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in lines), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def halved(width: int, lines: Lines) -> Lines:
    """A picture at half its size, each pixel the mean of four."""
    even = width // 2 * 6
    result = []
    for y in range(0, len(lines) - 1, 2):
        line = bytearray(even // 2)
        for channel in range(3):
            four = (lines[y + down][channel + right : even : 6] for down in (0, 1) for right in (0, 3))
            line[channel::3] = bytes(sum(values) >> 2 for values in zip(*four, strict=True))
        result.append(bytes(line))
    return result


def sheet(tiles: Sequence[Lines | None]) -> Lines:
    """All tiles in rows of COLUMNS, on the background, which also fills the gaps."""
    first = next(tile for tile in tiles if tile)
    width, height = len(first[0]) // 3, len(first)
    columns = min(COLUMNS, len(tiles))
    blank = [BACKGROUND * width] * height
    space = BACKGROUND * GAP
    margin = [BACKGROUND * (columns * (width + GAP) + GAP)] * GAP
    lines = list(margin)
    for start in range(0, len(tiles), columns):
        row = [tile or blank for tile in tiles[start : start + columns]]
        row += [blank] * (columns - len(row))
        lines += [space + space.join(parts) + space for parts in zip(*row, strict=True)]
        lines += margin
    return lines


def page(rows: Sequence[Mapping[str, str]], out: Path, have: Sequence[bool]) -> str:
    """The page: each picture with its parameters, and with links to what else its task left."""
    figures = []
    for index, (row, there) in enumerate(zip(rows, have, strict=True), start=1):
        picture = f"{index}/mandelbrot.png"
        shown = '<div class="gap">no picture</div>'
        if there:
            shown = f'<a href="{picture}"><img src="{picture}" alt="region {index}"></a>'
        names = [name for name in ("stdout.txt", "result.json") if (out / str(index) / name).is_file()]
        files = "".join(f' &middot; <a href="{index}/{name}">{name}</a>' for name in names)
        where = {name: html.escape(row[name]) for name in ("x_scale", "y_scale", "zoom")}
        figures.append(FIGURE.format(picture=shown, index=index, files=files, **where))
    return PAGE.format(title=f"{sum(have)} regions of the Mandelbrot set", figures="\n".join(figures))


def main(words: Sequence[str]) -> int:
    if len(words) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(words[0])
    parameters = Path(words[1]) if len(words) == 2 else Path(__file__).with_name("params.csv")
    with parameters.open(newline="") as file:
        rows = list(csv.DictReader(file))

    tiles: list[Lines | None] = []
    for index in range(1, len(rows) + 1):
        path = out / str(index) / "mandelbrot.png"
        tiles.append(halved(*decode(path)) if path.is_file() else None)
    missing = [str(index) for index, tile in enumerate(tiles, start=1) if tile is None]
    if len(missing) == len(rows):
        print(f"no picture in {out}: expected {out / '1' / 'mandelbrot.png'} and so on", file=sys.stderr)
        return 1
    (out / "contact-sheet.png").write_bytes(encode(sheet(tiles)))
    (out / "index.html").write_text(page(rows, out, [tile is not None for tile in tiles]))
    print(f"{len(rows) - len(missing)} pictures: {out / 'contact-sheet.png'} and {out / 'index.html'}")
    if missing:
        print(f"no picture of task {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
