"""Which grids of a model's attention locate the classes: read from real images with reference masks, grid by grid.

The grids that locate best differ from model to model: 16 x 16 of 64 x 64 latents in one (Hertz et al., ICLR 2023,
section 3), the latents' own grid and half of it in another. Nothing is trained; each image is read once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cxrsynth.data.dataset import rows
from cxrsynth.domain.overlap import dice
from cxrsynth.errors import UsageError
from cxrsynth.factory.apply.image import seed_of, shrink
from cxrsynth.generate.reader import Reader
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.nets.taps import merge_levels
from cxrsynth.recipe import Recipe
from cxrsynth.records import Draw, Row
from cxrsynth.store import Store

BY_PEOPLE = ("train", "benchmark")  # uses of masks that no model of ours made


@dataclass(frozen=True, slots=True)
class Located:
    """How well some levels locate the classes.

    Attributes:
        levels: that are read together.
        dice: class -> (N,) float64, one per image; nan where neither mask shows the class.
    """

    levels: tuple[int, ...]
    dice: dict[str, list[float]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Over images, then over classes."""
        return float(np.mean([np.nanmean(values) for values in self.dice.values()]))


def chosen_rows(data: Path, recipe: Recipe, split: str, most: int) -> list[Row]:
    """At most so many images, spread evenly, whose masks people made and which show all classes of the recipe.

    Raises:
        UsageError: there is none.
    """
    names = {item.name for item in recipe.classes}
    ids = Store(data).classes()

    def fits(row: Row) -> bool:
        shown = set(row.get("mask_classes", ids))
        return bool(row.get("mask")) and row.get("mask_use", "train") in BY_PEOPLE and names <= shown & set(ids)

    try:
        found = rows(data, (split,), fits)
    except UsageError as error:
        listed = ", ".join(sorted(names))
        raise UsageError(f"{error.message}: reference masks of {listed} are needed", "name another --split") from error
    return [found[i * len(found) // min(most, len(found))] for i in range(min(most, len(found)))]


def measure(
    reader: Reader,
    recipe: Recipe,
    data: Path,
    chosen: Sequence[Row],
    advance: Callable[[int], None] = lambda images: None,
) -> list[Located]:
    """Dice of unrefined labels with reference masks, for every combination of the levels that the model has.

    Args:
        chosen: images with reference masks.
        advance: told how many images were read.

    Returns:
        The best combination first.
    """
    store, batch = Store(data), recipe.sampler.batch
    ids, labelling = store.classes(), Labelling.from_recipe(recipe).model_copy(update={"refine": ()})
    found: dict[tuple[int, ...], Located] = {}
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        images = [shrink(store.load_image(row), *reader.size) for row in part]
        filled = np.stack(images + images[-1:] * (batch - len(part)))
        levels = reader.levels(filled, [seed_of(0, image) for image in filled], recipe.attention.timesteps)
        for row, image, place in zip(part, images, range(len(part)), strict=True):
            truth = _reference(store, row, reader.size)
            for some in (c for n in range(1, len(levels) + 1) for c in combinations(sorted(levels), n)):
                one = {level: levels[level][place : place + 1] for level in some}
                maps = merge_levels(one, recipe.attention.normalise_levels)[0]  # (K, h, w)
                own = make_sample(Draw(image, maps.numpy()), labelling).layers
                located = found.setdefault(some, Located(some))
                for k, item in enumerate(recipe.classes):
                    value = float(dice(own[k], truth == ids[item.name]))
                    located.dice.setdefault(item.name, []).append(value)
        advance(len(part))
    return sorted(found.values(), key=lambda one: -one.mean)


def _reference(store: Store, row: Row, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 ids of the reference mask at the size the model sees."""
    mask = store.load_mask(row)
    assert mask is not None  # `chosen_rows` leaves others out
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))


def read_with(model: Path, recipe: Recipe, device: torch.device) -> Reader:
    """A reader of all levels of a model.

    Raises:
        UsageError: the attention of the model can be read for the words of a prompt only.
    """
    from cxrsynth.generate.sampler import Latent

    latent = Latent(model, recipe.sampler, recipe.attention, device, overlapping=recipe.overlapping)
    return Reader(latent, {item.name: item.phrase for item in recipe.classes})
