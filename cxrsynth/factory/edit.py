"""One image at a time: a label map in, an image out; an image and a region in, the image with a finding in it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError

from cxrsynth.data import masks
from cxrsynth.device import resolve
from cxrsynth.domain import regions
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.atlas import read_mask
from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.generate.control.controlled import Controlled, Counting
from cxrsynth.generate.control.deform import resized
from cxrsynth.generate.control.pathology import find_region
from cxrsynth.generate.reader import Reader
from cxrsynth.generate.sampler import Latent, OnStep
from cxrsynth.ingest.image import UnreadableError, stretch
from cxrsynth.ingest.radiograph import Polarity, read_radiograph
from cxrsynth.pages.sheet import Item, contact_sheet
from cxrsynth.recipe import Recipe
from cxrsynth.recipe.control import between
from cxrsynth.recipe.pathology import Finding
from cxrsynth.records import Draw, Spec

# An image is stretched over 256 gray levels; an image that never gets beyond this holds class ids.
MOST_IDS = 15
LOOKED_AT = (50, 100)  # timesteps at which an image without a label map is read


@dataclass(frozen=True, slots=True)
class Wish:
    """One finding for one image.

    Attributes:
        finding: as the prompt names it; ``no abnormality`` takes away what is in the region.
        region: where it may be: words, a box (left, top, right, bottom in 0..1), or a PNG of the image's size.
        severity: 0 the least to 1 the most there is, a word such as ``moderate``, or two numbers.
        method, shape: as in `cxrsynth.recipe.pathology.Finding`.
    """

    finding: str
    region: str | regions.Box
    severity: float | str | tuple[float, float] = "moderate"
    method: str = "auto"
    shape: str = "blob"


@dataclass(frozen=True, slots=True)
class Edited:
    """What came of it, all at the size of the model's images.

    Attributes:
        before: (H, W) uint8 image, or None where an image was made of a label map without a finding.
        after: (H, W) uint8 image.
        mask: (H, W) uint8 ids of the anatomy.
        findings: finding -> (H, W) bool, its own mask; empty for what was taken away.
        strip: before, after and difference side by side.
        notes: what was changed to make the image upright.
    """

    before: np.ndarray | None
    after: np.ndarray
    mask: np.ndarray
    findings: dict[str, np.ndarray]
    strip: Image.Image
    notes: tuple[str, ...] = ()


def is_label_map(path: Path) -> bool:
    """Whether an image holds class ids and not gray levels."""
    try:
        values, notes = masks.read_mask(path)
    except masks.MaskError:
        return False
    return not notes and int(values.max()) <= MOST_IDS


def edit(
    source: Path,
    recipe: Recipe,
    model: Path,
    wishes: Sequence[Wish],
    mask: Path | None = None,
    prompt: str = "",
    seed: int = 0,
    device: str = "auto",
    on_step: OnStep | None = None,
    polarity: Polarity = "auto",
) -> Edited:
    """Draw one image.

    Args:
        source: a label map, or an image.
        recipe: its model settings and its ``control:`` block are used.
        model: folder of the weights.
        wishes: what to put in; an image needs at least one.
        mask: label map of an image; without one the anatomy is read from the model's attention.
        prompt: the prompt of an image made from a label map.
        polarity: whether an image that is inverted, turned or mirrored is looked for.

    Raises:
        UsageError: an image that cannot be read, a label map that does not fit, a region that is nowhere.
        RecipeError: a recipe without a ``control:`` block.
    """
    if recipe.control is None:
        raise RecipeError(f"recipe '{recipe.name}' controls nothing", "name one with a control: block, such as control")
    made = is_label_map(source)
    if made and mask is not None:
        raise UsageError(f"{source} is a label map itself", "leave out --mask, or give an image")
    if made and recipe.control.anatomy is None:
        raise RecipeError(f"recipe '{recipe.name}' imposes no anatomy", "set control.anatomy")
    if not made and not wishes:
        raise UsageError(f"{source} is an image, and there is nothing to put in", "add --finding and --region")
    given = read_mask(source) if made else None
    image, drawn, notes = (None, None, []) if made else read_pair(source, mask, polarity)
    latent = Latent(model, recipe.sampler, recipe.attention, resolve(device), on_step)
    controlled = Controlled(latent, recipe.control, list(CLASSES), strict=True)
    height, width = controlled.height, controlled.width
    phrases = {one.name: one.phrase for one in recipe.classes if one.name in CLASSES}
    findings = [finding(wish, seed + i) for i, wish in enumerate(wishes)]
    bare = Spec(0, "image", prompt, recipe.negative_prompt, phrases, {}, seed, "test")
    spec = replace(bare, control={"findings": findings})
    if given is not None:
        anatomy = resized(given, height, width, str(source))
        drawn_now = controlled.render([bare], [anatomy])[0]
        before = drawn_now.image if findings else None
    else:
        assert image is not None
        before = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
        anatomy = (
            see(latent, controlled, before, phrases) if drawn is None else resized(drawn, height, width, str(mask))
        )
        drawn_now = Draw(before, np.zeros((0, 1, 1), np.float32))
    with Counting(latent, len(findings)):
        draws, changed, layers = controlled.pathology.put([spec], [drawn_now], [anatomy])
    after, shown, own = draws[0].image, changed[0], layers[0]
    assert shown is not None
    asked = [find_region(entry, anatomy) for entry in findings]
    picture = strip(before, after, shown, own, asked)
    return Edited(before, after, shown, own, picture, tuple(notes))


def read_pair(
    source: Path, mask: Path | None, polarity: Polarity = "auto"
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """An image as (H, W) uint8 with its tone stretched as in ingest, its label map, and notes on what was changed.

    Raises:
        UsageError: one cannot be read, or they differ in size.
    """
    try:
        read = read_radiograph(source, polarity)
        image = stretch(read.pixels).round().astype(np.uint8)
    except (UnreadableError, OSError) as error:
        raise UsageError(f"{source} cannot be read: {error}", "give a gray image, 8 or 16 bit") from error
    if mask is None:
        return image, None, read.notes
    drawn = read_mask(mask)
    if drawn.shape != read.shape:
        sizes = f"{drawn.shape[1]} x {drawn.shape[0]} pixels, the image {read.shape[1]} x {read.shape[0]}"
        raise UsageError(f"{mask} has {sizes}", "give the label map of this image")
    return image, read.turn.mask(drawn), read.notes


def see(latent: Latent, controlled: Controlled, image: np.ndarray, phrases: dict[str, str]) -> np.ndarray:
    """(H, W) uint8 ids of the anatomy that the model's attention sees in an image."""
    maps, _ = Reader(latent, phrases).read(image[None], [0], LOOKED_AT, 1)
    return controlled.rough(maps[0], list(phrases))


def finding(wish: Wish, seed: int) -> dict[str, Any]:
    """A wish as a Spec holds it: every random number is spent here.

    Raises:
        UsageError: a severity, method, shape or region that there is not.
    """
    try:
        item = Finding.model_validate({**asdict(wish), "label": wish.finding})
    except ValidationError as error:
        problem = error.errors()[0]
        raise UsageError(
            f"{problem['loc'][0]}: {str(problem['msg']).removeprefix('Value error, ')}", "see cxrsynth control --help"
        ) from error
    region = item.region if isinstance(item.region, str) else list(item.region)
    severity = between(item.severity, np.random.default_rng(seed).random())
    how = {"method": item.method, "shape": item.shape, "severity": round(severity, 3), "seed": seed}
    return {"finding": item.finding, "label": item.label, "region": region, **how}


def strip(
    before: np.ndarray | None,
    after: np.ndarray,
    anatomy: np.ndarray,
    findings: dict[str, np.ndarray],
    asked: Sequence[np.ndarray],
) -> Image.Image:
    """Before with the regions, after, after with the findings, and the difference; of a label map alone the image."""
    if before is None:
        legend = dict(CLASSES)
        return contact_sheet([Item(after, anatomy, title="image and imposed anatomy")], columns=1, legend=legend)
    difference = np.rint(128 + (after.astype(np.float32) - before) / 2).clip(0, 255).astype(np.uint8)
    items = [
        Item(before, layers=dict(enumerate(asked, 1)), title="before, and the region"),
        Item(after, title="after"),
        Item(after, layers=dict(enumerate(findings.values(), 1)), title="after, and the finding"),
        Item(difference, title="difference, gray is none"),
    ]
    return contact_sheet(items, columns=4)


def box(text: str) -> str | regions.Box:
    """``0.55,0.5,0.85,0.8`` -> a box; anything else is words or a file."""
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return text
    if len(numbers) != 4:
        raise UsageError(f"'{text}' is no box of four numbers", "left,top,right,bottom in 0..1: 0.55,0.5,0.85,0.8")
    return numbers[0], numbers[1], numbers[2], numbers[3]
