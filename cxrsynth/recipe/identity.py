"""What a dataset is made of, as one hash: everything that can change a byte of a sample."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cxrsynth.encoding import file_sha256
from cxrsynth.recipe.control import Control
from cxrsynth.recipe.files import content, in_fields, in_masks
from cxrsynth.recipe.legacy import hashed_name
from cxrsynth.recipe.model import Recipe

# Raised when the same recipe would give other bytes because the code changed.
FORMAT = 1
NOT_IN_FINGERPRINT = ("name", "count", "card")


def identity(recipe: Recipe, weights: str) -> dict[str, Any]:
    """Everything that can change a byte of a sample: the resolved recipe, weights and prompt files by their sha256.

    Raises:
        MissingError: a weights file that a refiner names is not there.
    """
    body = {name: value for name, value in recipe.resolved().items() if name not in NOT_IN_FINGERPRINT}
    body["model"] = weights
    del body["base"], body["lora"]  # the digest of the weights is that of the whole
    for name, usual in (("column", "prompt"), ("too_long", "refuse"), ("weight", None)):
        if getattr(recipe.prompts, name) == usual:
            del body["prompts"][name]
    body["masks"] = masks_identity(recipe)
    if recipe.control is None:
        del body["control"]  # a dataset that nothing was imposed on keeps its fingerprint
    else:
        body["control"] = in_fields(Control, recipe.control.identity(), content)
    if recipe.prompts.each == 1:
        del body["prompts"]["each"]  # likewise where every image has its own prompt
    for source in ("csv", "text"):
        path = getattr(recipe.prompts, source)
        if path is not None:
            body["prompts"][source] = file_sha256(path)
    body["format"] = FORMAT
    return body


def masks_identity(recipe: Recipe) -> Any:
    """What the labels of a recipe are made by: its ``masks`` block, files by their sha256."""
    return hashed_name(in_masks(recipe.resolved()["masks"], content))


def fingerprint(recipe: Recipe, weights: str) -> str:
    """sha256 (hex) of the identity.

    Args:
        weights: digest of the model's files; empty for a generator without weights.
    """
    return hashlib.sha256(json.dumps(identity(recipe, weights), sort_keys=True).encode()).hexdigest()
