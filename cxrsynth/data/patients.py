"""An image of a dataset, and the patient behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from cxrsynth.data.documents import read_json
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.recipe import legacy
from cxrsynth.records import Row
from cxrsynth.store import Store

# Beside the weights of a trained network: the patients it has seen.
PATIENTS = "patients.json"


def patient_id(row: Row) -> str:
    """The patient of a row, told apart by source: two hospitals may both have a patient 17."""
    return f"{row.get('source', '')}/{row.get('patient') or row['key']}"


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """An image to learn from or to measure on.

    Attributes:
        store: its dataset.
        row: its line in ``meta``.
    """

    store: Store
    row: Row

    @property
    def patient(self) -> str:
        """The patient, told apart by source; an image without one stands for itself."""
        return patient_id(self.row) if self.row.get("patient") else f"{self.store.root.resolve()}/{self.row['key']}"

    def image(self) -> np.ndarray:
        """(H, W) uint8."""
        return self.store.load_image(self.row)


AnyImage = TypeVar("AnyImage", bound=DatasetImage)


def subset(images: list[AnyImage], count: int) -> list[AnyImage]:
    """The images of ``count`` patients, chosen by the patients' names: 8 patients are among the 16.

    Raises:
        UsageError: there are fewer patients.
    """
    if not count:
        return images
    # By name and not by folder, so that every machine takes the same ones.
    names = {image.patient: str(image.row.get("patient") or image.row["key"]) for image in images}
    if count > len(names):
        raise UsageError(f"{count} patients were asked for, {images[0].store.root} has {len(names)}", "ask for fewer")
    chosen = sorted(names, key=lambda patient: hashlib.sha256(names[patient].encode()).digest())[:count]
    return [image for image in images if image.patient in set(chosen)]


def patients_seen(model: Path) -> dict[str, list[str]]:
    """The patients that a trained network has seen, by its folder: ``{"train": [...], "val": [...]}`` or nothing."""
    path = next((path for path in (model / PATIENTS, model / legacy.PATIENTS) if path.exists()), None)
    found: dict[str, list[str]] = {} if path is None else read_json(path)
    return found


CARVED = 10  # one in so many patients stands in for a missing validation split


def carve(root: Path, usable: Callable[[Row], bool]) -> frozenset[str]:
    """The patients of the train split that stand in for a validation split; none where the dataset has one.

    They are chosen by their names, so that every run and every machine holds out the same ones.

    Args:
        usable: whether a row can be learned from.

    Raises:
        UsageError: there are not two patients to divide.
    """
    store = Store(root)
    rows = list(store.rows())
    if any(row.get("split") == "val" for row in rows):
        return frozenset()
    chosen = [DatasetImage(store, row) for row in rows if row.get("split") == "train" and usable(row)]
    names = {image.patient: str(image.row.get("patient") or image.row["key"]) for image in chosen}
    if len(names) < 2:
        raise UsageError(
            f"{root} has no validation split, and {len(names)} usable patients in its train split to take one from",
            "name another dataset with --val, or make this one larger",
        )
    order = sorted(names, key=lambda patient: hashlib.sha256(f"val {names[patient]}".encode()).digest())
    return frozenset(order[: max(1, round(len(names) / CARVED))])


def check_patients(
    train: Sequence[DatasetImage], other: Sequence[DatasetImage], name: str = "val", first: str = "train"
) -> None:
    """Refuse a patient on both sides.

    Args:
        name: of the other side, and of the first, for the error.

    Raises:
        MismatchError: naming the patient and an image of each side.
    """
    seen = {image.patient: image for image in train}
    for image in other:
        if image.patient in seen:
            mine = seen[image.patient]
            raise MismatchError(
                f"patient {image.patient} is in two splits: {mine.store.root / mine.row['image']} ({first}) "
                f"and {image.store.root / image.row['image']} ({name})",
                "give all images of a patient the same split, then ingest again",
            )


def refuse_copies(seen: Sequence[DatasetImage], other: Sequence[DatasetImage], name: str) -> None:
    """Refuse a test image that is another one's copy, file for file, whoever's image it is said to be.

    A folder from elsewhere names patients its own way, so names alone cannot tell that its images were trained on.

    Args:
        seen: what is learned from or validated on.
        name: of the test, for the error.

    Raises:
        MismatchError: naming both images.
    """
    known = dict(zip(_digests(seen), seen, strict=True))
    for image, digest in zip(other, _digests(other), strict=True):
        if digest and digest in known:
            mine = known[digest]
            raise MismatchError(
                f"{image.store.root / image.row['image']} of test {name} is {mine.store.root / mine.row['image']}, "
                "which networks learn from or are validated on",
                "measure on images that are in no training",
            )


def _digests(images: Sequence[DatasetImage]) -> list[str]:
    """sha256 of each image's file, as the receipts of its dataset state them; empty where they do not."""
    stores = {image.store.root: image.store for image in images}
    files = {
        (root, path): str(stated["sha256"])
        for root, store in stores.items()
        for receipt in store.receipts()
        for path, stated in receipt.files.items()
    }
    return [files.get((image.store.root, image.row["image"]), "") for image in images]


def refuse_seen(images: Sequence[DatasetImage], seen: Collection[str]) -> None:
    """Refuse to test on a patient that a network was trained on.

    Raises:
        MismatchError: naming the image and the patient.
    """
    known = set(seen)
    for image in images:
        if image.patient in known:
            raise MismatchError(
                f"{image.store.root / image.row['image']}: patient {image.patient} was in the training of this network",
                "give all images of a patient the same split, or measure on another dataset",
            )


class Mixture(Generic[AnyImage]):
    """Which images a batch holds.

    Args:
        images: one list per dataset.
        weights: share of the draws of each dataset.
        chances: per dataset the chance of each image, which sum to 1, or None where all are alike; None where all are
            everywhere.
    """

    def __init__(
        self,
        images: Sequence[Sequence[AnyImage]],
        weights: Sequence[float],
        chances: Sequence[np.ndarray | None] | None = None,
    ) -> None:
        self.images = [list(part) for part in images]
        self.shares = np.asarray(weights, float) / sum(weights)
        self.chances = chances or [None] * len(self.images)

    def __call__(self, rng: np.random.Generator, count: int) -> list[AnyImage]:
        """Images chosen with replacement: a dataset by its share, then one of its images."""
        which = rng.choice(len(self.images), size=count, p=self.shares)
        return [self.images[i][self._one_of(i, rng)] for i in which]

    def _one_of(self, i: int, rng: np.random.Generator) -> int:
        count, chances = len(self.images[i]), self.chances[i]
        return int(rng.integers(count) if chances is None else rng.choice(count, p=chances))
