"""One film at a time: a label map in, a film out; a film and a region in, the film with a finding in it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxrsynth.device import resolve
from cxrsynth.domain import regions
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.atlas import read_mask
from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.generate.control.controlled import Controlled
from cxrsynth.generate.control.deform import resized
from cxrsynth.generate.reader import Reader
from cxrsynth.generate.sampler import Latent, OnStep
from cxrsynth.ingest.film import UnreadableError, read_gray, stretch
from cxrsynth.pages.sheet import Item, contact_sheet
from cxrsynth.recipe import Recipe
from cxrsynth.records import Draw, Spec

# A film is stretched over 256 gray levels; a picture that never gets beyond this holds class ids.
MOST_IDS = 15
LOOKED_AT = (50, 100)  # timesteps at which a film without a label map is read


@dataclass(frozen=True, slots=True)
class Wish:
    """One finding for one film.

    Attributes:
        finding: as the prompt names it.
        region: words, a box (left, top, right, bottom in 0..1), or a PNG of the film's size.
        severity: above 0 faint, 1 full.
        shape: ``blob`` or ``whole``.
    """

    finding: str
    region: str | regions.Box
    severity: float = 1.0
    shape: str = "blob"


@dataclass(frozen=True, slots=True)
class Edited:
    """What came of it, all at the size the model draws.

    Attributes:
        before: (H, W) uint8 film, or None where a film was made of a label map without a finding.
        after: (H, W) uint8 film.
        mask: (H, W) uint8 ids of the anatomy.
        region: (H, W) bool, where findings were put; empty without.
        strip: before, after and difference side by side.
    """

    before: np.ndarray | None
    after: np.ndarray
    mask: np.ndarray
    region: np.ndarray
    strip: Image.Image


def is_label_map(path: Path) -> bool:
    """Whether a picture holds class ids and not gray levels."""
    try:
        with Image.open(path) as picture:
            return picture.mode in ("L", "P") and int(np.asarray(picture).max()) <= MOST_IDS
    except OSError:
        return False


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
) -> Edited:
    """Draw one film.

    Args:
        source: a label map, or a film.
        recipe: its model settings and its ``control:`` block are used.
        model: folder of the weights.
        wishes: what to put in; a film needs at least one.
        mask: label map of a film; without one the anatomy is read from the model's attention.
        prompt: what a film made of a label map is drawn from.

    Raises:
        UsageError: a picture that cannot be read, a label map that does not fit, a region that is nowhere.
        RecipeError: a recipe without a ``control:`` block.
    """
    if recipe.control is None:
        raise RecipeError(f"recipe '{recipe.name}' controls nothing", "name one with a control: block, such as control")
    made = is_label_map(source)
    if made and mask is not None:
        raise UsageError(f"{source} is a label map itself", "leave out --mask, or give a film")
    if made and recipe.control.anatomy is None:
        raise RecipeError(f"recipe '{recipe.name}' imposes no anatomy", "set control.anatomy")
    if not made and not wishes:
        raise UsageError(f"{source} is a film, and there is nothing to put in", "add --finding and --region")
    given = read_mask(source) if made else None
    film, drawn = (None, None) if made else read_pair(source, mask)
    latent = Latent(model, recipe.sampler, recipe.attention, resolve(device), on_step)
    controlled = Controlled(latent, recipe.control, list(CLASSES))
    height, width = controlled.height, controlled.width
    phrases = {one.name: one.phrase for one in recipe.classes if one.name in CLASSES}
    findings = [finding(wish, seed + i) for i, wish in enumerate(wishes)]
    spec = Spec(0, "film", prompt, recipe.negative_prompt, phrases, {}, seed, "test", control={"findings": findings})
    bare = Spec(0, "film", prompt, recipe.negative_prompt, phrases, {}, seed, "test")
    if given is not None:
        anatomy = resized(given, height, width, str(source))
        # With the same noise the first pass is the same, so this is the film before the finding was put in.
        before = controlled.render([bare], [anatomy])[0].image if findings else None
        after = controlled.render([spec], [anatomy])[0]
    else:
        assert film is not None
        before = np.asarray(Image.fromarray(film).resize((width, height), Image.Resampling.LANCZOS))
        anatomy = (
            see(latent, controlled, before, phrases) if drawn is None else resized(drawn, height, width, str(mask))
        )
        after = controlled.edit([before], [anatomy], [spec])[0]
    region = np.zeros((height, width), bool)
    for entry in findings:
        region |= controlled.region(entry, anatomy)
    return Edited(before, after.image, anatomy, region, strip(before, after, anatomy, region))


def read_pair(source: Path, mask: Path | None) -> tuple[np.ndarray, np.ndarray | None]:
    """A film as (H, W) uint8 with its tone stretched as in ingest, and its label map.

    Raises:
        UsageError: one cannot be read, or they differ in size.
    """
    try:
        film = stretch(read_gray(source)[0]).round().astype(np.uint8)
    except (UnreadableError, OSError) as error:
        raise UsageError(f"{source} cannot be read: {error}", "give a gray picture, 8 or 16 bit") from error
    if mask is None:
        return film, None
    drawn = read_mask(mask)
    if drawn.shape != film.shape:
        sizes = f"{drawn.shape[1]} x {drawn.shape[0]} pixels, the film {film.shape[1]} x {film.shape[0]}"
        raise UsageError(f"{mask} has {sizes}", "give the label map of this film")
    return film, drawn


def see(latent: Latent, controlled: Controlled, film: np.ndarray, phrases: dict[str, str]) -> np.ndarray:
    """(H, W) uint8 ids of the anatomy that the model's attention sees in a film."""
    maps, _ = Reader(latent, list(phrases.values())).read(film[None], [0], LOOKED_AT, 1)
    return controlled.rough(maps[0], list(phrases))


def finding(wish: Wish, seed: int) -> dict[str, Any]:
    """A wish as a Spec holds it."""
    region = wish.region if isinstance(wish.region, str) else list(wish.region)
    named = {"finding": wish.finding, "label": None, "region": region}
    return {**named, "shape": wish.shape, "severity": wish.severity, "seed": seed}


def strip(before: np.ndarray | None, after: Draw, anatomy: np.ndarray, region: np.ndarray) -> Image.Image:
    """Before, after and difference, each with what was imposed; of a label map alone the film with it."""
    film = after.image
    if before is None:
        legend = dict(CLASSES)
        return contact_sheet([Item(film, anatomy, title="film and imposed anatomy")], columns=1, legend=legend)
    difference = np.rint(128 + (film.astype(np.float32) - before) / 2).clip(0, 255).astype(np.uint8)
    where = {1: region}
    items = [
        Item(before, layers=where, title="before"),
        Item(film, layers=where, title="after"),
        Item(difference, layers=where, title="difference, gray is none"),
    ]
    return contact_sheet(items, columns=3)


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
