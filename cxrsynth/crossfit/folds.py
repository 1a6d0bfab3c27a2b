"""The division of a dataset into folds of equal size: by patient, and the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from cxrsynth.data.labelled import Source
from cxrsynth.data.patients import patient_id
from cxrsynth.errors import UsageError
from cxrsynth.records import Row
from cxrsynth.train.curves import Progress


class Folds:
    """Which patient is in which fold.

    Args:
        names: of the patients, as `patient_id` gives them.
        count: of the folds.
        seed: another one gives another division.
    """

    def __init__(self, names: Iterable[str], count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        order = sorted(set(names), key=lambda name: (self._digest(name), name))
        self.places = {name: place % count for place, name in enumerate(order)}

    def of(self, name: str) -> int:
        """The fold of a patient; one that was not divided is in any of them, chosen by the name."""
        return self.places.get(name, int.from_bytes(self._digest(name)[:8], "big") % self.count)

    def keys(self, rows: Iterable[Row]) -> dict[str, int]:
        """Key -> fold of images, by their patients."""
        return {row["key"]: self.of(patient_id(row)) for row in rows}

    def _digest(self, name: str) -> bytes:
        return hashlib.sha256(f"fold {self.seed} {name}".encode()).digest()


class Steps:
    """Progress of a command that trains one network per fold, then writes images.

    Args:
        folds: to train on, one after the other.
        updates: of each.
        images: that are written.
        on_step: told (done, all, figures); None tells nobody.
    """

    def __init__(self, folds: int, updates: int, images: int, on_step: Progress | None) -> None:
        self.updates, self.on_step = updates, on_step
        self.written, self.total = folds * updates, folds * updates + images

    def training(self, place: int) -> Progress:
        """What the training of the ``place``-th fold tells."""

        def advance(done: int, all_: int, figures: dict[str, float]) -> None:
            if self.on_step:
                self.on_step(place * self.updates + done, self.total, figures)

        return advance

    def wrote(self, images: int) -> None:
        """So many more images are written."""
        self.written = min(self.written + images, self.total)
        if self.on_step:
            self.on_step(self.written, self.total, {})


def others(root: Path, folds: Mapping[str, int], fold: int) -> Source:
    """A dataset without the images of a fold.

    Args:
        folds: key -> fold.
    """
    return Source(root, without=frozenset(key for key, own in folds.items() if own == fold))


def check_folds(root: Path, found: Collection[int]) -> None:
    """Refuse a dataset of which all images to learn from are in one fold.

    Raises:
        UsageError: naming it.
    """
    if len(set(found)) < 2:
        raise UsageError(f"{root} has too few patients for folds", "give a dataset with more of them in split 'train'")
