"""The division of a dataset into folds: by patient, and the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from cxrsynth.data.labelled import Source
from cxrsynth.errors import UsageError


def fold_of(name: str, folds: int, seed: int) -> int:
    """The fold of a patient, by the name alone: other images of the dataset change nothing."""
    digest = hashlib.sha256(f"fold {seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % folds


def others(root: Path, folds: Mapping[str, int], fold: int) -> Source:
    """A dataset without the images of a fold.

    Args:
        folds: key -> fold.
    """
    return Source(root, without=frozenset(key for key, own in folds.items() if own == fold))


def check_folds(root: Path, found: Iterable[int]) -> None:
    """Refuse a dataset of which all images are in one fold.

    Raises:
        UsageError: naming it.
    """
    if len(set(found)) < 2:
        raise UsageError(f"{root} has too few patients for folds", "more images, or more --folds")
