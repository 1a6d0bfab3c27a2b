"""What the calls of the interface have in common: a recipe as people name it, and a folder to work in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrsynth.recipe import Recipe


def load_recipe(
    recipe: str | Path | Recipe, changes: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe by name, by file or in memory, with some values changed; None changes nothing.

    Args:
        settings: dotted names -> values in plain types, for example ``{"sampler.batch": 8, "masks.refine": []}``.

    Raises:
        RecipeError: there is no such recipe, or it is not valid.
    """
    from cxrsynth.recipe import Recipe, load, parse
    from cxrsynth.recipe.file import assign

    assignments = [f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()]
    if not isinstance(recipe, Recipe):
        return load(Path(recipe), changes, assignments)
    raw = recipe.resolved() | {name: value for name, value in changes.items() if value is not None}
    for assignment in assignments:
        assign(raw, assignment)
    return parse(raw)


@contextmanager
def folder_for(out: str | Path | None) -> Iterator[Path]:
    """A dataset folder: the one that is asked for, or one that is gone afterwards."""
    if out is not None:
        yield Path(out)
        return
    with TemporaryDirectory(prefix="cxrsynth-") as temporary:
        yield Path(temporary) / "dataset"
