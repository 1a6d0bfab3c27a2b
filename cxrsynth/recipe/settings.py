"""Settings of any kind from a file or from named values, with single values changed; a typo is an error at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.recipe.entry import explain
from cxrsynth.recipe.file import put, read
from cxrsynth.recipe.part import Part

AnyPart = TypeVar("AnyPart", bound=Part)


def load_as(kind: type[AnyPart], path: Path, overrides: dict[str, Any] | None = None) -> AnyPart:
    """A recipe of any kind: a YAML file or the name of a bundled one (``recipes/train/mini.yaml``).

    Args:
        overrides: dotted name (``training.updates``) -> value.

    Raises:
        RecipeError: the file is missing, no YAML, or has a wrong key or value; the message names it.
    """
    file, body = read(path)
    for name, value in (overrides or {}).items():
        put(body, name, value)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise RecipeError(f"{file}: {explain(error, kind)}", "fix it in the recipe, or with --set") from None


def settle(kind: type[AnyPart], values: Mapping[str, Any], overrides: Mapping[str, Any], hint: str) -> AnyPart:
    """A configuration from named values; None leaves the default.

    Args:
        values: field -> value.
        overrides: dotted name (``augment.rotate``) -> value; they come last.
        hint: what to type when a name or value is wrong.

    Raises:
        UsageError: a name or value is wrong; the message names it.
    """
    body = {name: value for name, value in values.items() if value is not None}
    for name, value in overrides.items():
        put(body, name, value)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise UsageError(explain(error, kind), hint) from None
