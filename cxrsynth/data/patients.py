"""A film of a dataset, and the patient behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.store import Row, Store


@dataclass(frozen=True, slots=True)
class Film:
    """A film to learn from or to measure on.

    Attributes:
        store: its dataset.
        row: its line in ``meta``.
    """

    store: Store
    row: Row

    @property
    def patient(self) -> str:
        """The patient, told apart by source; a film without one stands for itself."""
        if self.row.get("patient"):
            return f"{self.row.get('source', '')}/{self.row['patient']}"
        return f"{self.store.root.resolve()}/{self.row['key']}"

    def image(self) -> np.ndarray:
        """(H, W) uint8."""
        return self.store.load_image(self.row)


AnyFilm = TypeVar("AnyFilm", bound=Film)


def subset(films: list[AnyFilm], count: int) -> list[AnyFilm]:
    """The films of ``count`` patients, chosen by the patients' names: 8 patients are among the 16.

    Raises:
        UsageError: there are fewer patients.
    """
    if not count:
        return films
    # By name and not by folder, so that every machine takes the same ones.
    names = {film.patient: str(film.row.get("patient") or film.row["key"]) for film in films}
    if count > len(names):
        raise UsageError(f"{count} patients were asked for, {films[0].store.root} has {len(names)}", "ask for fewer")
    chosen = sorted(names, key=lambda patient: hashlib.sha256(names[patient].encode()).digest())[:count]
    return [film for film in films if film.patient in set(chosen)]


def check_patients(train: Sequence[Film], other: Sequence[Film], name: str = "val") -> None:
    """Refuse a patient on both sides.

    Raises:
        MismatchError: naming the patient and a film of each side.
    """
    seen = {film.patient: film for film in train}
    for film in other:
        if film.patient in seen:
            mine = seen[film.patient]
            raise MismatchError(
                f"patient {film.patient} is in two splits: {mine.store.root / mine.row['image']} (train) "
                f"and {film.store.root / film.row['image']} ({name})",
                "give all films of a patient the same split, then ingest again",
            )
