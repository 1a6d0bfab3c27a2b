"""Does the image follow the words? One prompt with two words varied, from the same noise, as a sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from string import Formatter

from PIL import Image

from cxrsynth import weights
from cxrsynth.errors import MissingError, RecipeError, UsageError
from cxrsynth.factory.plan import weights_of
from cxrsynth.factory.prompts import spec
from cxrsynth.generate import build as build_generator
from cxrsynth.pages.sheet import Item, contact_sheet
from cxrsynth.recipe import Recipe, find, load
from cxrsynth.records import Spec

PLACES = ("row", "col")
# Settings of the sampler for a model that comes without a recipe.
PLAIN = Path("lung")


def recipe_of(
    name: str,
    assignments: list[str] | None,
    offline: bool,
    base: str | None = None,
    lora: Sequence[str] | None = None,
) -> Recipe:
    """The recipe of that name or path; for a model, the bundled lung recipe with this model in it.

    Raises:
        UsageError: neither a recipe nor a model.
    """
    pieces = {"base": base, "lora": list(lora) if lora else None}
    try:
        find(Path(name))
    except RecipeError:
        if base is None and not Path(name).exists():
            try:
                weights.resolve(name, offline=offline)
            except UsageError:
                raise UsageError(
                    f"'{name}' is neither a recipe nor a model",
                    "see 'cxrsynth recipes', or name mini or a model folder",
                ) from None
        return load(PLAIN, {"model": name, **pieces}, assignments)
    return load(Path(name), pieces, assignments)


def cells(recipe: Recipe, template: str, rows: Sequence[str], cols: Sequence[str], seeds: int) -> list[Spec]:
    """One Spec per image, row by row; every cell has the same noises, so that only the words differ.

    Args:
        template: prompt with ``{row}`` and ``{col}``.
        seeds: images per cell; they stand beside each other.

    Raises:
        UsageError: a place is missing in the template, unknown, or has no words.
    """
    try:
        named = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise UsageError(f"the prompt '{template}' has a loose brace", "write {row} and {col}") from error
    if named != set(PLACES):
        raise UsageError(
            f"the prompt '{template}' needs {{row}} and {{col}}", "for example: 'Chest X-ray. {row} {col} effusion.'"
        )
    if not all(rows) or not all(cols) or not rows or not cols:
        raise UsageError("a row or a column has no word", "for example: --rows mild,severe --cols left,right")
    noises = [spec(recipe, index) for index in range(seeds)]
    return [
        replace(noise, prompt=" ".join(template.format(row=row, col=col).split()), fields={"row": row, "col": col})
        for row in rows
        for col in cols
        for noise in noises
    ]


def draw_grid(
    recipe: Recipe,
    specs: Sequence[Spec],
    columns: int,
    *,
    device: str = "auto",
    offline: bool = False,
    advance: Callable[[float], None] | None = None,
) -> Image.Image:
    """Draw the cells as they are, nothing is rejected, and lay them out.

    Args:
        columns: images beside each other.
        advance: told of progress in fractions of an image.

    Raises:
        MissingError: the recipe's weights are not there.
        RecipeError: a prompt is over the token limit.
    """

    def stepped(step: int, steps: int) -> None:
        if advance is not None:
            advance(recipe.sampler.batch / steps)

    # Nothing is labelled: what a chain would ask of the network, perhaps of another network, is not asked.
    recipe = recipe.model_copy(update={"masks": recipe.masks.model_copy(update={"refine": []})})
    found = weights_of(recipe, offline)
    generator = build_generator(recipe, None if found is None else found.path, device, stepped)
    items = []
    for start in range(0, len(specs), recipe.sampler.batch):
        part = list(specs[start : start + recipe.sampler.batch])
        for one, draw in zip(part, generator.draw(part), strict=True):
            if not draw.finite:
                raise MissingError(f"'{one.prompt}' gave no image", "the weights are damaged: copy the model again")
            title = f"{one.fields['row']} · {one.fields['col']}"
            items.append(Item(draw.image, title=title, text=one.prompt))
    return contact_sheet(items, columns=columns, title=f"{recipe.name}, seed {recipe.seed}: same noise, other words")
