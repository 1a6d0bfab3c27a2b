"""Recipe files: find, read, override, validate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cxrsynth.data.documents import parse_yaml, read_yaml
from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.recipe.control import located
from cxrsynth.recipe.entry import explain
from cxrsynth.recipe.files import absolute
from cxrsynth.recipe.model import Recipe


def bundled_recipes() -> Path:
    """The folder of the recipes that come with the package: beside it in a checkout, inside it in an install."""
    package = Path(__file__).parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def find(path: Path) -> Path:
    """A recipe file: the path itself, or the bundled recipe of that name (``recipes/lung.yaml``, ``lung``).

    Raises:
        RecipeError: there is none; the message lists the bundled ones.
    """
    if path.is_file():
        return path
    parts = path.parts[1:] if path.parts[:1] == ("recipes",) else path.parts
    candidate = bundled_recipes().joinpath(*parts)
    for guess in (candidate, candidate.with_suffix(".yaml")):
        if guess.is_file():
            return guess
    files = bundled_recipes().rglob("*.yaml")
    known = ", ".join(sorted(str(file.relative_to(bundled_recipes()).with_suffix("")) for file in files))
    raise RecipeError(f"no recipe at {path}", f"bundled recipes: {known}; 'cxrsynth new NAME' copies one to edit")


def read(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file of a recipe and its content, not validated.

    Raises:
        RecipeError: there is none, or it is no YAML mapping.
    """
    file = find(path)
    try:
        raw = read_yaml(file)
    except UsageError as error:
        raise RecipeError(error.message, error.hint) from error
    if not isinstance(raw, dict):
        raise RecipeError(f"{file} holds no mapping", "a recipe starts with 'name: ...'; see 'cxrsynth recipes'")
    return file, raw


def load(path: Path, overrides: Mapping[str, Any] | None = None, assignments: list[str] | None = None) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        path: YAML file or the name of a bundled recipe.
        overrides: top-level values that win over the file (``count``, ``seed``, ``model``); None values are ignored.
        assignments: ``a.b=c`` strings; values are read as YAML, list items by number.

    Raises:
        RecipeError: what is wrong and where, with the names that would be right.
    """
    file, raw = read(path)
    raw.update({name: value for name, value in (overrides or {}).items() if value is not None})
    for assignment in assignments or []:
        assign(raw, assignment)
    prompts = raw.get("prompts")
    if isinstance(prompts, dict):
        for source in ("csv", "text"):
            if isinstance(prompts.get(source), str):
                prompts[source] = str((file.parent / prompts[source]).resolve())
    if "masks" in raw:
        raw["masks"] = absolute(raw["masks"], file.parent)
    raw["control"] = located(raw.get("control"), file.parent)
    return parse(raw, str(file))


def parse(raw: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Validate a mapping.

    Raises:
        RecipeError: as `load`.
    """
    try:
        return Recipe(**raw)
    except ValidationError as error:
        raise RecipeError(f"{where}: {explain(error, Recipe)}", "'cxrsynth info --schema' lists every key") from error


def assignment(text: str) -> tuple[str, Any]:
    """``a.b=c`` -> its dotted name and its value, read as YAML.

    Raises:
        RecipeError: not of that form.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"--set {text!r} is not of the form a.b=c", "for example: --set sampler.batch=8")
    try:
        return dotted, parse_yaml(value, dotted)
    except UsageError as error:
        raise RecipeError(f"--set {text!r}: the value is not YAML", "quote it") from error


def assign(raw: dict[str, Any], text: str) -> None:
    """Carry out one ``a.b=c`` on a raw recipe, in place.

    Raises:
        RecipeError: not of that form, or no such place.
    """
    put(raw, *assignment(text))


def put(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Set one value of a raw recipe by its dotted name, in place.

    Raises:
        RecipeError: no such place.
    """
    *parents, last = dotted.split(".")
    node: Any = raw
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise RecipeError(
            f"--set {dotted}: no such place in the recipe",
            "list items are counted from 0, for example classes.0.phrase",
        ) from error
