"""Generators: what draws the images of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cxrsynth import registry
from cxrsynth.errors import RecipeError
from cxrsynth.recipe import Recipe
from cxrsynth.records import Generator


def build(
    recipe: Recipe, model: Path | None, device: str, on_step: Callable[[int, int], None] | None = None
) -> Generator:
    """The generator of a recipe, with its controllers around it where the recipe imposes something.

    Raises:
        RecipeError: a generator that cannot be controlled.
    """
    generator: Generator = registry.load("generators", recipe.generator).from_recipe(recipe, model, device, on_step)
    if recipe.control is None:
        return generator
    from cxrsynth.generate.control.controlled import Controlled
    from cxrsynth.generate.sampler import Latent
    from cxrsynth.masks.labels import Labelling

    if not isinstance(generator, Latent):
        raise RecipeError(f"generator '{recipe.generator}' cannot be controlled", "set generator: latent")
    labelling = Labelling.from_recipe(recipe).model_copy(update={"use": "attention", "agreement": False})
    return Controlled(generator, recipe.control, list(recipe.class_ids()), labelling=labelling)
