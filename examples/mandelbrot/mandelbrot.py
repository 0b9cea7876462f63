#!/usr/bin/env python3
"""Draws one region of the Mandelbrot set into mandelbrot.png, with nothing but the standard library.

    python3 mandelbrot.py X_SCALE Y_SCALE ZOOM [WIDTH HEIGHT]

X_SCALE and Y_SCALE are the picture's centre, read on the scales of the real and of the imaginary axis; ZOOM
is the magnification: at 1 the picture is 3.2 wide and 2.4 high, which holds the whole set. WIDTH and HEIGHT are
in pixels (320 and 240).
"""

import math
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

VIEW_WIDTH = 3.2  # of the complex plane, at zoom 1
INSIDE = -1.0  # the smooth count of a point that does not escape
ROUGH = 90  # difference of neighbours, summed over red, green and blue, from which a pixel is sampled again

Colour = tuple[int, int, int]

# Position on a cycle from 0 to 1, and the colour there.
GRADIENT: Sequence[tuple[float, Colour]] = (
    (0.0, (6, 8, 56)),
    (0.14, (18, 78, 178)),
    (0.27, (86, 196, 224)),
    (0.38, (246, 250, 232)),
    (0.50, (255, 196, 66)),
    (0.63, (226, 88, 34)),
    (0.76, (128, 16, 66)),
    (0.89, (44, 8, 74)),
    (1.0, (6, 8, 56)),
)
SHADES = 2048


def palette() -> list[Colour]:
    """The gradient as SHADES colours, with soft transitions."""
    colours = []
    for shade in range(SHADES):
        at = shade / SHADES
        (left, a), (right, b) = next(pair for pair in pairwise(GRADIENT) if at < pair[1][0])
        t = (at - left) / (right - left)
        t = t * t * (3 - 2 * t)
        red, green, blue = (round(x + (y - x) * t) for x, y in zip(a, b, strict=True))
        colours.append((red, green, blue))
    return colours


def escape(c: complex, limit: int, near: float) -> float:
    """How many steps of z*z + c it takes to leave, as a number without jumps; INSIDE after `limit` of them.

    A path that comes within `near` of where it was earlier runs in a circle, and is inside too.
    """
    if abs(1 - (1 - 4 * c) ** 0.5) < 1 or abs(c + 1) < 0.25:  # the heart and the disc to its left
        return INSIDE
    z = earlier = 0j
    for done in range(0, limit, 8):
        before = z
        z = z * z + c
        z = z * z + c
        z = z * z + c
        z = z * z + c
        z = z * z + c
        z = z * z + c
        z = z * z + c
        z = z * z + c
        if abs(z) > 2:
            steps, z = done, before
            while abs(z) < 1000:
                z = z * z + c
                steps += 1
            return steps + 1 - math.log2(math.log(abs(z)) / math.log(1000))
        if abs(z - earlier) < near:
            return INSIDE
        if done & (done - 8) == 0:  # at the powers of two
            earlier = z
    return INSIDE


class View:
    """A region of the plane as a grid of pixels."""

    def __init__(self, centre: complex, zoom: float, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.step = VIEW_WIDTH / zoom / width
        self.corner = centre + complex(-(width - 1) / 2, (height - 1) / 2) * self.step
        self.limit = 8 * round(40 + 9 * max(0.0, math.log2(zoom)))

    def sample(self, x: float, y: float) -> float:
        return escape(self.corner + complex(x, -y) * self.step, self.limit, self.step / 1000)

    def rows(self) -> Iterator[list[float]]:
        for y in range(self.height):
            yield [self.sample(x, y) for x in range(self.width)]


class Painter:
    """Turns smooth counts into colours, so that half of a picture's points outside lie within half a cycle.

    Where the cycle begins depends on the zoom, which gives each depth colours of its own.
    """

    def __init__(self, counts: Sequence[Sequence[float]], zoom: float) -> None:
        outside = sorted(n for row in counts for n in row if n >= 0) or [1.0]
        self.least = outside[0]
        middle = outside[len(outside) // 2] - self.least
        self.scale = 0.55 / math.log1p(max(middle, 1.0))
        self.first = math.log10(zoom) * 0.17
        self.palette = palette()

    def colour(self, count: float) -> Colour:
        if count < 0:
            return (0, 0, 0)
        at = self.first + self.scale * math.log1p(max(0.0, count - self.least))
        return self.palette[int(at * SHADES) % SHADES]


def smoothed(view: View, painter: Painter, counts: Sequence[Sequence[float]]) -> list[list[Colour]]:
    """The picture's colours; a pixel that differs much from those right of it or below gets three samples."""
    plain = [[painter.colour(n) for n in row] for row in counts]
    result = [list(row) for row in plain]
    for y in range(view.height - 1):
        row, below = plain[y], plain[y + 1]
        for x in range(view.width - 1):
            r, g, b = row[x]
            for r2, g2, b2 in (row[x + 1], below[x]):
                if abs(r - r2) + abs(g - g2) + abs(b - b2) > ROUGH:
                    second = painter.colour(view.sample(x + 0.6, y + 0.2))
                    third = painter.colour(view.sample(x + 0.2, y + 0.6))
                    red, green, blue = (sum(c) // 3 for c in zip((r, g, b), second, third, strict=True))
                    result[y][x] = (red, green, blue)
                    break
    return result


def png(pixels: Sequence[Sequence[Colour]]) -> bytes:
    """A picture as a PNG file, eight bits a channel, without filters."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 2, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in pixels)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def main(words: Sequence[str]) -> int:
    try:
        x_scale, y_scale, zoom = (float(word) for word in words[:3])
        width, height = (int(word) for word in words[3:]) if words[3:] else (320, 240)
        if min(width, height) < 2 or not zoom > 0 or not all(map(math.isfinite, (x_scale, y_scale, zoom))):
            raise ValueError("no such picture")
    except ValueError:
        print(__doc__, file=sys.stderr)
        return 2

    began = time.perf_counter()
    view = View(complex(x_scale, y_scale), zoom, width, height)
    print(f"centre {x_scale} {y_scale}, zoom {zoom:g}, at most {view.limit} steps a pixel", flush=True)
    counts = []
    for row in view.rows():
        counts.append(row)
        if len(counts) * 4 // height > (len(counts) - 1) * 4 // height:
            print(f"{len(counts)} of {height} lines", flush=True)
    Path("mandelbrot.png").write_bytes(png(smoothed(view, Painter(counts, zoom), counts)))
    inside = sum(n < 0 for row in counts for n in row) / (width * height)
    print(f"::metric inside={inside:.4f}")
    print(f"mandelbrot.png written after {time.perf_counter() - began:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
