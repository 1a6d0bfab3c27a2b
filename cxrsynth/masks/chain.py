"""The refiner chain of a recipe: entries -> refiners -> one reduce in the order of the recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from cxrsynth.errors import RecipeError
from cxrsynth.masks.refiner import Named, Sighted
from cxrsynth.recipe.entry import construct as build_entry
from cxrsynth.records import Refiner


def build(entries: Sequence[Mapping[str, Any]], classes: Sequence[str], overlap: Sequence[str] = ()) -> list[Refiner]:
    """The refiners of a recipe, in its order.

    Args:
        entries: ``{"use": name, field: value, ...}`` each; the other fields take their defaults.
        classes: class names in the order of K.
        overlap: those of them that lie over others and do not compete.

    Raises:
        RecipeError: unknown refiner, field or value; the message lists the right ones.
    """
    built = [construct("refiners", entry) for entry in entries]
    return [one.named(classes, overlap) if isinstance(one, Named) else one for one in built]


def refine(
    image: np.ndarray, prob: np.ndarray, chain: Sequence[Refiner], reads: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """(H, W) uint8, (K, H, W) float32 in 0..1 -> the same after every refiner in turn.

    Args:
        reads: what the network answered about this image, for refiners that ask.
    """
    told = [one.given(reads or {}) if isinstance(one, Sighted) else one for one in chain]
    return reduce(lambda refined, refiner: refiner(image, refined), told, prob)


def construct(kind: str, entry: Mapping[str, Any]) -> Any:
    """One entry of a recipe -> the object it configures.

    Raises:
        RecipeError: unknown name, field or value; the message lists the right ones.
    """
    try:
        return build_entry(kind, entry)
    except ValueError as error:
        raise RecipeError(f"{kind}: {error}", "'cxrsynth info --schema' lists every key") from error
