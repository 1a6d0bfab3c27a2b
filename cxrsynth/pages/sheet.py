"""Images to look at: label overlays and contact sheets.

Everything is drawn at the size it is shown, so that outlines and letters are crisp at 100 %. Images are (H, W)
uint8, masks (H, W) uint8 class ids with 0 for background. The patient's right is on the left of an image, and an
"R" says so.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxrsynth.errors import UsageError
from cxrsynth.files import write_atomic
from cxrsynth.records import IGNORE

# Okabe and Ito's palette, told apart with every common colour blindness, in an order that keeps the first three
# (right lung, left lung, heart) far apart on gray. A class keeps its colour in every sheet, report and plot.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (226, 121, 178),
    (0, 178, 128),
    (240, 228, 66),
    (236, 94, 30),
    (64, 128, 255),
    (190, 190, 190),
)


_PAPER, _FRAME, _INK, _FAINT, _ALARM = (19, 22, 27), (48, 54, 63), (236, 238, 241), (150, 157, 168), (255, 122, 92)
_GAP, _MARGIN, _TEXT, _LINE = 14, 18, 13, 17


def colour(class_id: int) -> tuple[int, int, int]:
    """The colour of a class id, from 1; after the eighth they repeat."""
    return PALETTE[(class_id - 1) % len(PALETTE)]


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a contact sheet.

    Attributes:
        image: (H, W) uint8.
        mask: (H, W) uint8 class ids, or None where nobody labelled it.
        layers: class id -> (H, W) bool where classes overlap; taken instead of ``mask``.
        title: one bright line, for example the key.
        text: up to two fainter lines, for example the prompt.
        reason: why it was rejected; framed and shown as a warning when not empty.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    layers: Mapping[int, np.ndarray] | None = None
    title: str = ""
    text: str = ""
    reason: str = ""


def split_classes(mask: np.ndarray) -> dict[int, np.ndarray]:
    """(H, W) uint8 class ids -> class id -> (H, W) bool, for the classes that are there."""
    return {int(value): mask == value for value in np.unique(mask) if value not in (0, IGNORE)}


def outline(inside: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool -> (H, W) bool: the rim of a region, ``width`` pixels wide, within the region."""
    core = inside.copy()
    for _ in range(width):
        # The image's edge does not count as a rim: a lung that is cut off is not closed there.
        padded = np.pad(core, 1, mode="edge")
        core = core & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def overlay(
    image: np.ndarray,
    mask: np.ndarray | None,
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    alpha: float = 0.28,
    line: int | None = None,
    size: tuple[int, int] | None = None,
    layers: Mapping[int, np.ndarray] | None = None,
) -> Image.Image:
    """An image with its labels painted over it: soft fill, crisp outline.

    Args:
        image: (H, W) uint8.
        mask: (H, W) uint8 class ids; None leaves the image as it is.
        colours: class id -> RGB; ``colour`` by default.
        alpha: strength of the fill, 0 to 1.
        line: width of the outline in pixels, 0 for none; by default it grows with the size.
        size: (width, height) of the result; by default that of the image.
        layers: class id -> (H, W) bool, for classes that overlap; taken instead of ``mask``.

    Returns:
        RGB image.
    """
    if mask is not None and mask.shape != image.shape:
        raise UsageError(f"the mask is {mask.shape}, its image {image.shape}", "mask and image need the same size")
    width, height = size or (image.shape[1], image.shape[0])
    picture = Image.fromarray(image, mode="L")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    canvas = np.repeat(np.asarray(picture, dtype=np.float32)[..., None], 3, axis=2)
    regions = dict(layers) if layers is not None else split_classes(mask) if mask is not None else {}
    rim = max(1, round(min(width, height) / 220)) if line is None else line
    for class_id, inside in sorted(regions.items()):
        region = fit(inside, (width, height))
        paint = np.asarray((colours or {}).get(class_id, colour(class_id)), dtype=np.float32)
        canvas[region] = (1 - alpha) * canvas[region] + alpha * paint
        if rim:
            canvas[outline(region, rim)] = paint
    return Image.fromarray(canvas.round().astype(np.uint8), mode="RGB")


def fit(inside: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool -> (height, width) bool at another size; enlarged rims become smooth, not stepped."""
    if (inside.shape[1], inside.shape[0]) == size:
        return inside
    soft = Image.fromarray(inside.astype(np.uint8) * 255, mode="L").resize(size, Image.Resampling.BICUBIC)
    return np.asarray(soft) >= 128


def mark_right(picture: Image.Image) -> Image.Image:
    """The RGB image with an "R" in its top left corner: the patient's right."""
    draw = ImageDraw.Draw(picture)
    size = max(11, round(picture.width / 16))
    draw.text((round(size * 0.5), round(size * 0.35)), "R", _INK, _font(size), stroke_width=2, stroke_fill=_PAPER)
    return picture


def contact_sheet(
    items: Sequence[Item],
    columns: int = 4,
    cell: int = 224,
    captions: bool = True,
    legend: Mapping[str, int] | None = None,
    title: str = "",
) -> Image.Image:
    """Images side by side with their overlays, readable at 100 %.

    Args:
        items: what to show, row by row; one without labels says "no mask" beside the image, or, where none has
            any, the image stands alone.
        columns: items beside each other.
        cell: width of one image in pixels; its height follows the tallest image.
        captions: whether titles, texts and reasons are written below.
        legend: class name -> class id, explained at the top.
        title: one line at the top.

    Returns:
        RGB image.
    """
    if not items:
        raise UsageError("there is nothing to show", "generate at least one image first")
    columns = min(columns, len(items))
    paired = any(item.mask is not None or item.layers is not None for item in items)
    tall = max(round(cell * item.image.shape[0] / item.image.shape[1]) for item in items)
    wide = cell * 2 + 2 if paired else cell
    lines = 4 if any(item.reason for item in items) else 3
    step_x, step_y = wide + _GAP, tall + (lines * _LINE + 8 if captions else 0) + _GAP
    rows = -(-len(items) // columns)
    width = 2 * _MARGIN + columns * step_x - _GAP
    head = _header(title, legend or {}, width)
    sheet = Image.new("RGB", (width, head.height + rows * step_y + _MARGIN - _GAP), _PAPER)
    sheet.paste(head, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for number, item in enumerate(items):
        left, top = _MARGIN + number % columns * step_x, head.height + number // columns * step_y
        high = round(cell * item.image.shape[0] / item.image.shape[1])
        sheet.paste(overlay(item.image, None, size=(cell, high)), (left, top))
        if paired and item.mask is None and item.layers is None:
            _centred(draw, "no mask", (left + cell + 2, top, left + wide, top + high))
        elif paired:
            labelled = overlay(item.image, item.mask, size=(cell, high), layers=item.layers)
            sheet.paste(mark_right(labelled), (left + cell + 2, top))
        if item.reason:
            draw.rectangle((left - 2, top - 2, left + wide + 1, top + high + 1), outline=_ALARM, width=2)
        if captions:
            _caption(draw, item, left, top + tall + 6, wide)
    return sheet


def encode(picture: Image.Image) -> bytes:
    """An image as the bytes of a PNG; the same image always gives the same bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def save(picture: Image.Image, path: Path) -> None:
    """Write an image as PNG, whole or not at all."""
    write_atomic(path, encode(picture))


def _caption(draw: ImageDraw.ImageDraw, item: Item, left: int, top: int, width: int) -> None:
    """Title, reason and up to two lines of text below an image."""
    if item.title:
        draw.text((left, top), wrap(item.title, width, 1, _TEXT)[0], _INK, _font(_TEXT))
        top += _LINE
    if item.reason:
        draw.text((left, top), wrap(f"rejected: {item.reason}", width, 1, _TEXT)[0], _ALARM, _font(_TEXT))
        top += _LINE
    for line in wrap(item.text, width, 2, _TEXT):
        draw.text((left, top), line, _FAINT, _font(_TEXT))
        top += _LINE


def _centred(draw: ImageDraw.ImageDraw, text: str, box: tuple[int, int, int, int]) -> None:
    """Faint text in the middle of a faintly framed box (left, top, right, bottom)."""
    draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=_FRAME)
    draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), text, _FAINT, _font(_TEXT), anchor="mm")


def _header(title: str, legend: Mapping[str, int], width: int) -> Image.Image:
    """Title and legend over the full width; the legend breaks into as many lines as it needs."""
    places: list[tuple[int, int, str, int]] = []
    left, row = _MARGIN, 0
    for name, class_id in legend.items():
        label = plain(name.replace("_", " "))
        needed = round(_font(_TEXT).getlength(label)) + 40
        if left + needed > width - _MARGIN and left > _MARGIN:
            left, row = _MARGIN, row + 1
        places.append((left, row, label, class_id))
        left += needed
    above = 32 if title else 0
    below = (row + 1) * 22 + 8 if places else 0
    head = Image.new("RGB", (width, _MARGIN + above + below), _PAPER)
    draw = ImageDraw.Draw(head)
    if title:
        draw.text((_MARGIN, _MARGIN - 5), wrap(title, width - 2 * _MARGIN, 1, 18)[0], _INK, _font(18))
    for left, row, label, class_id in places:
        top = _MARGIN + above + row * 22
        draw.rounded_rectangle((left, top, left + 14, top + 14), 3, fill=colour(class_id))
        draw.text((left + 21, top - 1), label, _INK, _font(_TEXT))
    return head


def plain(text: str) -> str:
    """Text in the letters that the bundled font has: accents are dropped, other scripts become ``?``."""
    text = text.replace("–", "-").replace("—", "-").replace("’", "'")
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return " ".join("".join(letter if letter.isascii() or letter in "·…" else "?" for letter in bare).split())


def wrap(text: str, width: int, lines: int, size: int) -> list[str]:
    """Break text into at most ``lines`` lines of ``width`` pixels; what does not fit becomes an ellipsis."""
    font = _font(size)
    done: list[str] = []
    words = plain(text).split()
    while words and len(done) < lines:
        last = len(done) == lines - 1
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line = f"{line} {words.pop(0)}"
        if (last and words) or font.getlength(line) > width:
            while line and font.getlength(line + "…") > width:
                line = line[:-1]
            line = line.rstrip() + "…"
        done.append(line)
    return done or [""]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
