"""Validation images for datasets that have none: some patients of the train split are held out, and it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cxrsynth.console import console
from cxrsynth.data.patients import DatasetImage, carve
from cxrsynth.records import Row
from cxrsynth.store import Store

Keep = Callable[[Row], bool]


class Carved:
    """Which patients of which datasets are held out of training; none of a dataset with a validation split.

    Args:
        roots: datasets that have to give validation images.
        usable: whether a row can be learned from.
    """

    def __init__(self, roots: Sequence[Path], usable: Keep) -> None:
        self.patients = {root: carve(root, usable) for root in dict.fromkeys(roots)}
        for root, taken in self.patients.items():
            if taken:
                count = f"{len(taken)} {'patient' if len(taken) == 1 else 'patients'}"
                told = f"{root} has no validation split: {count} of its train split stand in for it"
                console.print(told, markup=False, soft_wrap=True)

    def split(self, root: Path) -> str:
        """The split that the validation images of a dataset come from."""
        return "train" if self.patients.get(root) else "val"

    def left(self, root: Path, keep: Keep) -> Keep:
        """The same condition on rows, without the patients that are held out."""
        taken = self.patients.get(root)
        return (lambda row: keep(row) and _patient(root, row) not in taken) if taken else keep

    def taken(self, root: Path, keep: Keep) -> Keep:
        """The same condition on rows, for the patients that are held out; all where none were."""
        taken = self.patients.get(root)
        return (lambda row: keep(row) and _patient(root, row) in taken) if taken else keep


def everything(row: Row) -> bool:
    """The condition that every row meets."""
    return True


def _patient(root: Path, row: Row) -> str:
    return DatasetImage(Store(root), row).patient
