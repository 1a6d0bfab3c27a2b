"""What bfloat16 changes: the same images generated and labelled in float32 and in bfloat16, side by side.

    python -m benchmarks.precision                      # the bundled model, 32 images
    python -m benchmarks.precision --images 4           # a try

Writes ``results/precision.json``: mean absolute difference of the images in gray levels, Dice between the masks of
both, and seconds an image, of the median of the batches.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed import seconds
from cxrsynth import weights
from cxrsynth.device import resolve
from cxrsynth.domain.overlap import dice
from cxrsynth.evaluate.results import Record, bootstrap, record, write
from cxrsynth.factory.batches import draws
from cxrsynth.factory.prompts import spec
from cxrsynth.generate.sampler import Latent
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.recipe import Recipe, load
from cxrsynth.records import Draw, Sample, Spec

TYPES = ("float32", "bfloat16")


def generated(model: Path, recipe: Recipe, dtype: str, images: int) -> tuple[list[Draw], list[float]]:
    """The images of a recipe in a precision, and the seconds of each batch."""
    sampler = recipe.sampler.model_copy(update={"dtype": dtype})
    latent = Latent(model, sampler, recipe.attention, resolve("auto"), asked=recipe.asked())
    found: list[Draw] = []
    took = []
    specs = [spec(recipe, index) for index in range(images)]
    for start in range(0, images, sampler.batch):
        part = specs[start : start + sampler.batch]

        def batch(part: list[Spec] = part) -> None:
            found.extend(draw for group in draws(part, latent, sampler.batch) for _, draw in group)

        took.append(seconds(batch))
    return found, took


def compare(model: Path, recipe: Recipe, images: int) -> list[Record]:
    """Differences of images and masks, and the time of both."""
    labelling = Labelling.from_recipe(recipe)
    made: dict[str, list[Draw]] = {}
    masks: dict[str, list[Sample]] = {}
    records = []
    for dtype in TYPES:
        made[dtype], took = generated(model, recipe, dtype, images)
        masks[dtype] = [make_sample(draw, labelling) for draw in made[dtype]]
        each = statistics.median(took) / recipe.sampler.batch
        records.append(record("precision", dtype, recipe.name, "seconds_per_image", (each, each, each), images))
    full, half = (np.stack([draw.image for draw in made[dtype]]).astype(np.float32) for dtype in TYPES)
    away = np.abs(full - half).mean(axis=(1, 2))
    names = [str(i) for i in range(images)]
    records.append(record("precision", "bfloat16", recipe.name, "gray_levels", bootstrap(away, names), images))
    for k, klass in enumerate(labelling.classes):
        both = zip(masks["float32"], masks["bfloat16"], strict=True)
        values = np.array([float(dice(one.layers[k], other.layers[k])) for one, other in both])
        records.append(record("precision", "bfloat16", recipe.name, "dice", bootstrap(values, names), images, klass))
    return [{**one, "command": "python -m benchmarks.precision"} for one in records]


def main() -> None:
    """Measure and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=32)
    options.add_argument("--recipe", type=Path, default=Path("recipes/lung.yaml"))
    options.add_argument("--out", type=Path, default=Path("results/precision.json"))
    chosen = options.parse_args()
    torch.manual_seed(0)
    recipe = load(chosen.recipe)
    records = compare(weights.resolve(recipe.model, offline=True).path, recipe, chosen.images)
    write(chosen.out, records)
    for one in records:
        print(f"{one['arm']:9s} {one['metric']:18s} {one['class']:12s} {one['value']:.4f}")


if __name__ == "__main__":
    main()
