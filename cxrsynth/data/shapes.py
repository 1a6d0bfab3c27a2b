"""The shape of what a dataset says of itself: rows and recipe are checked where they are read, and trusted from there.

A file may have been changed by anybody; nothing that reads a row has to expect a list where a text belongs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cxrsynth.errors import UsageError

Scalar = (str, int, float, bool)
PATHS = ("image", "mask", "layers", "maps")
NUMBERS = ("shard", "index", "seed", "attempt")
WORDS = (
    "prompt", "negative_prompt", "split", "source", "licence", "patient", "view", "sex", "age", "reason",
    "use", "mask_use", "carrier", "population", "lungs_from", "mask_by", "mask_definition", "image_sha256",
)  # fmt: skip
# Mappings -> what their values are.
MAPPINGS: dict[str, tuple[type, ...]] = {
    "scores": (int, float), "fields": Scalar, "present": (bool,), "phrases": (str,), "simulated": (dict, list, *Scalar),
}  # fmt: skip
LISTS: dict[str, tuple[type, ...]] = {"mask_classes": (str,), "notes": (str,)}


def check_row(row: Mapping[str, Any], where: str) -> None:
    """Refuse a row of which a field that has a meaning is of another kind; what it means to others is theirs.

    Raises:
        UsageError: naming the field.
    """
    for name, value in row.items():
        if value is None:
            good = name != "image"
        elif name in PATHS:
            good = isinstance(value, str)
        elif name in NUMBERS:
            good = isinstance(value, int)
        elif name == "findings":  # words, or a list of them
            good = all(isinstance(one, Scalar) for one in (value if isinstance(value, list) else [value]))
        elif name in WORDS:
            good = isinstance(value, Scalar)
        elif name in MAPPINGS:
            kinds = (*MAPPINGS[name], type(None))
            good = isinstance(value, dict) and all(isinstance(one, kinds) for one in value.values())
        elif name in LISTS:
            good = isinstance(value, list) and all(isinstance(one, LISTS[name]) for one in value)
        else:
            good = True
        if not good:
            raise UsageError(f"{where}: {name} is {str(value)[:60]!r}", "restore that line, or make its shard again")
    if not isinstance(row.get("image"), str):
        raise UsageError(f"{where} names no image", "restore that line, or make its shard again")


def check_recipe(body: Any, where: str) -> dict[str, Any]:
    """What `recipe.yaml` of a dataset says, where it is a recipe at all.

    Raises:
        UsageError: a value that pages and exports speak of is of another kind; the message names it.
    """
    if not isinstance(body, dict) or not all(isinstance(name, str) for name in body):
        raise UsageError(f"{where} holds no recipe", "restore it, or make the dataset again")
    for name, value in body.items():
        if value is None:
            good = True
        elif name in ("count", "shard"):
            good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        elif name in ("name", "model", "generator", "seed", "negative_prompt", "base"):
            good = isinstance(value, Scalar)
        elif name == "card":
            good = isinstance(value, dict) and all(one is None or isinstance(one, Scalar) for one in value.values())
        elif name == "classes":
            good = isinstance(value, list) and all(
                isinstance(c, dict) and isinstance(c.get("name"), str) for c in value
            )
        elif name in ("masks", "prompts", "simulate", "sampler"):
            good = isinstance(value, dict)
        else:
            good = True
        if not good:
            raise UsageError(f"{where}: {name} is {str(value)[:60]!r}", "restore it, or make the dataset again")
    return body


def _has_name(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str)
