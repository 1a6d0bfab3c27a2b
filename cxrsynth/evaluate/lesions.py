"""Real images in which somebody said where a finding is: boxes of radiologists, and zones that readings name.

Nothing may be trained or tuned on them. They are halved by patient: look at the working half while you work, and report
the other one once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cxrsynth.data.boxes import READERS, READINGS, boxes_of, fill, zone_of
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.patients import patient_id
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.regions import body, resolve
from cxrsynth.errors import UsageError
from cxrsynth.records import Row
from cxrsynth.store import Store

Half = Literal["working", "reporting", "both"]


@dataclass(frozen=True, slots=True)
class Case:
    """One image with the place of one finding.

    Attributes:
        row: of the image.
        reader: whose boxes.
        finding: which finding.
        target: (H, W) bool, its boxes filled.
        region: (H, W) bool, where the map counts.
    """

    row: Row
    reader: str
    finding: str
    target: np.ndarray
    region: np.ndarray


def half_of(patient: str) -> Half:
    """The half a patient belongs to, by a hash: it stays the same whatever else is in the dataset."""
    return "working" if hashlib.sha256(patient.encode()).digest()[0] % 2 == 0 else "reporting"


def in_half(row: Row, half: Half) -> bool:
    """Whether an image belongs to a half of the patients; both halves together are all."""
    return half == "both" or half_of(str(row.get("patient") or row["key"])) == half


def cases(
    data: Path,
    half: Half = "working",
    readers: Sequence[str] = READERS,
    lungs: Path | None = None,
    seen: Collection[str] = (),
) -> list[Case]:
    """All images in which somebody said where a finding is.

    Args:
        data: images that `cxrsynth ingest` wrote, with their boxes.
        readers: of `READERS`; `READINGS` takes the zone that a reading of tuberculosis names.
        lungs: a dataset with masks of the same images: figures count within the hull of lungs and heart. Without, the
            whole image counts.
        seen: patients that a network was trained on, as `cxrsynth.data.patients.patient_id` writes them; left out.

    Raises:
        UsageError: no image has a box, or ``lungs`` lacks one of them.
    """
    store, found = Store(data), []
    if READINGS in readers and lungs is None:
        raise UsageError("a zone in words needs masks of the lungs", "add --lungs: cxrsynth annotate makes them")
    masks = _masks(lungs) if lungs is not None else None
    known = frozenset(seen)
    for row in read_rows(data):
        if not in_half(row, half) or patient_id(row) in known:
            continue
        boxes = [box for box in boxes_of(row) if box.reader in readers] if _boxed(row, readers) else []
        zone = zone_of(row) if READINGS in readers else ""
        if not boxes and not zone:
            continue
        shape = store.load_image(row).shape
        mask = masks(row["key"], shape) if masks is not None else None
        region = np.ones(shape, bool) if mask is None else body(mask)
        for reader, finding in sorted({(box.reader, box.finding) for box in boxes}):
            mine = [box for box in boxes if (box.reader, box.finding) == (reader, finding)]
            found.append(Case(row, reader, finding, fill(mine, shape), region))
        if zone and mask is not None:
            found.append(Case(row, READINGS, "tuberculosis", resolve(zone, mask), region))
    if not found:
        raise UsageError(
            f"no image of {data} has the place of a finding from {' or '.join(readers)} in the {half} half",
            "ingest a collection whose table has boxes_nih or boxes_rsna, or choose another --half",
        )
    return found


def _boxed(row: Row, readers: Sequence[str]) -> bool:
    return any(row.get(f"boxes_{reader}") for reader in readers)


def _masks(lungs: Path) -> Callable[[str, tuple[int, ...]], np.ndarray]:
    """Key and shape of an image -> (H, W) uint8 ids of `cxrsynth.domain.anatomy.CLASSES`."""
    store = Store(lungs)
    ids = store.classes()
    held = {row["key"]: row for row in store.rows() if row.get("mask")}

    def load(key: str, shape: tuple[int, ...]) -> np.ndarray:
        if key not in held:
            raise UsageError(f"{lungs} has no mask of {key}", "annotate the same images")
        stored = store.load_mask(held[key])
        assert stored is not None  # rows without a mask were left out
        if stored.shape != shape:
            raise UsageError(f"the mask of {key} is {stored.shape}, the image {shape}", "annotate the same images")
        mask = np.zeros_like(stored)
        for name, number in CLASSES.items():
            if name in ids:
                mask[stored == ids[name]] = number
        return mask

    return load
