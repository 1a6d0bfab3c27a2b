"""The sheet of a simulated dataset: each image before, after, and with the masks of what was put in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxrsynth.pages.sheet import mark_right, overlay, wrap

CELL = 192
COLUMNS = 6
GAP = 6
LINE = 15
LINES = 3
SIZE = 11
PAPER, INK = (18, 20, 24), (205, 210, 216)


@dataclass(frozen=True, slots=True)
class Pair:
    """One image.

    Attributes:
        before, after: (H, W) uint8.
        layers: class id -> (H, W) bool, what was put in.
        words: written below.
    """

    before: np.ndarray
    after: np.ndarray
    layers: dict[int, np.ndarray]
    words: str


def before_after(pairs: Sequence[Pair]) -> Image.Image:
    """RGB picture: one column per image, before above after above the masks, the words below; at least one image."""
    columns = min(COLUMNS, len(pairs))
    high = 3 * (CELL + 2) + LINES * LINE + 2 * GAP
    bands = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (GAP + columns * (CELL + GAP), GAP + bands * high), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SIZE)
    for number, pair in enumerate(pairs):
        left, top = GAP + number % columns * (CELL + GAP), GAP + number // columns * high
        size = (CELL, CELL)
        labelled = mark_right(overlay(pair.after, None, size=size, layers=pair.layers))
        for image in (overlay(pair.before, None, size=size), overlay(pair.after, None, size=size), labelled):
            sheet.paste(image, (left, top))
            top += CELL + 2
        for line in wrap(pair.words, CELL, LINES, SIZE):
            draw.text((left, top), line, INK, font)
            top += LINE
    return sheet
