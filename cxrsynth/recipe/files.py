"""The files of small networks that a recipe names: found beside it, and known by their content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cxrsynth import registry
from cxrsynth.auxiliary_files import NetworkFile, auxiliary_file
from cxrsynth.errors import CxrError
from cxrsynth.recipe import legacy
from cxrsynth.recipe.entry import part_of
from cxrsynth.weights import hash_of

# (name of a file, which kind of network) -> what is put in its place
Change = Callable[[str, str], str]
# Part of a ``masks:`` block -> the registry that its entries are in.
ENTRIES = {"normalise": "normalisers", "refine": "refiners"}


def absolute(masks: Any, folder: Path) -> Any:
    """A raw ``masks:`` block with network files as absolute paths, looked for beside the recipe and where we are.

    A dataset keeps its recipe; a path in it has to mean the same file from anywhere. Names of bundled files stay.
    """

    def place(name: str, key: str) -> str:
        found = (where / Path(name).expanduser() for where in (folder, Path()))
        return next((str(path.resolve()) for path in found if path.is_file()), name)

    return in_masks(masks, place)


def content(name: str, key: str) -> str:
    """The sha256 of a network file.

    Raises:
        MissingError: it is not there.
    """
    return hash_of(auxiliary_file(name, key))


def in_masks(masks: Any, change: Change) -> Any:
    """A ``masks:`` block, raw or resolved, with every network file changed."""
    if not isinstance(masks, dict):
        return masks
    found = dict(masks)
    for name, kind in ENTRIES.items():
        value = found.get(name)
        if isinstance(value, list):
            found[name] = [_in_entry(kind, entry, change) for entry in value]
        elif isinstance(value, dict):
            found[name] = _in_entry(kind, value, change)
    return found


def in_fields(model: type[BaseModel], body: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The fields of a part with every network file changed, also in the parts it holds."""
    found = dict(body)
    for name, field in model.model_fields.items():
        key = field.alias if field.alias in found else name
        value = found.get(key)
        mark = next((one for one in field.metadata if isinstance(one, NetworkFile)), None)
        inner = part_of(model, name)
        if mark is not None and isinstance(value, str):
            found[key] = change(value, mark.key)
        elif isinstance(value, dict) and inner is not None:
            found[key] = in_fields(inner, value, change)
    return found


def _in_entry(kind: str, entry: Any, change: Change) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get("use"), str):
        return entry
    try:
        model = registry.load(kind, legacy.entry(kind, entry["use"]))
    except CxrError:
        return entry  # an unknown name is refused where the recipe is validated
    return in_fields(model, entry, change) if hasattr(model, "model_fields") else entry
