"""Look first: a few samples of a recipe as a contact sheet, with what curation would say of each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from PIL import Image

from cxrsynth import curate
from cxrsynth.curate import words
from cxrsynth.factory.batches import draws
from cxrsynth.factory.plan import weights_of
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.shard import label
from cxrsynth.generate import build as build_generator
from cxrsynth.masks.labels import Labelling
from cxrsynth.pages.sheet import Item, contact_sheet
from cxrsynth.recipe import Recipe
from cxrsynth.records import Sample


class Inline(Executor):
    """Runs a task where it is submitted; a handful of images is not worth starting processes for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The result of the call, done."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def preview(
    recipe: Recipe,
    number: int,
    *,
    device: str = "auto",
    offline: bool = False,
    advance: Callable[[float], None] | None = None,
) -> Image.Image:
    """The first ``number`` slots of a recipe at their first attempt, the same images ``generate`` starts from.

    Args:
        advance: told of progress in fractions of a sample.
    """

    def stepped(step: int, steps: int) -> None:
        if advance is not None:
            advance(recipe.sampler.batch / steps)

    found = weights_of(recipe, offline)
    generator = build_generator(recipe, None if found is None else found.path, device, stepped)
    checks = curate.build(recipe.curate.checks, list(recipe.class_ids()))
    specs = [spec(recipe, index) for index in range(number)]
    kept: list[Sample] = []
    items = []
    for one, _, sample in label(
        draws(specs, generator, recipe.sampler.batch), recipe, Labelling.from_recipe(recipe), Inline()
    ):
        verdict = curate.decide(sample, kept, checks)
        if verdict.keep:
            kept.append(sample)
        items.append(
            Item(
                image=sample.image,
                mask=sample.mask,
                layers=overlapping(recipe, sample),
                title=one.key,
                text=one.prompt,
                reason=words.reason(verdict.reason),
            )
        )
    return contact_sheet(
        items,
        columns=min(4, number),
        legend=recipe.class_ids(),
        title=f"{recipe.name}, seed {recipe.seed}: {len(kept)} of {number} would be kept",
    )


def overlapping(recipe: Recipe, sample: Sample) -> dict[int, Any] | None:
    """Class id -> (H, W) bool where a recipe has overlapping classes; None where the label map says it all."""
    if not any(item.overlap for item in recipe.classes):
        return None
    return {item.id: sample.layers[k] for k, item in enumerate(recipe.classes) if sample.layers[k].any()}
