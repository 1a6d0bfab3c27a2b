"""The images that are to be labelled: where they are, what is known of them, and their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxrsynth.data.dicom import is_dicom
from cxrsynth.data.paths import trouble
from cxrsynth.encoding import file_sha256
from cxrsynth.errors import UsageError
from cxrsynth.ingest.image import SourceImage, UnreadableError, stretch
from cxrsynth.ingest.radiograph import Polarity, images_at, read_radiograph
from cxrsynth.records import Row
from cxrsynth.store import Store


@dataclass(frozen=True, slots=True)
class Source:
    """An image to label.

    Attributes:
        key: file stem in the result.
        digest: sha256 of its file.
        row: what is known about it.
        image: where its file is, or None where a dataset holds it.
    """

    key: str
    digest: str
    row: Row
    image: SourceImage | None = None


Picture = tuple[Source, np.ndarray]


def find(place: Path, splits: Sequence[str] = (), origins: Sequence[str] = ()) -> Iterator[Source]:
    """The images behind a path, in an order that does not depend on the machine.

    Raises:
        UsageError: there is no such path, or no image in it.
    """
    if (place / "classes.json").is_file() and (place / "shards").is_dir():
        store = Store(place)
        digests = {path: stated["sha256"] for receipt in store.receipts() for path, stated in receipt.files.items()}
        rows = [
            row
            for row in store.rows()
            if (not splits or row.get("split") in splits) and (not origins or row.get("source") in origins)
        ]
        if not rows:
            raise UsageError(f"{place} has no finished image that fits", "leave --split and --source out")
        yield from (Source(row["key"], digests[row["image"]], row) for row in rows)
        return
    if splits or origins:
        raise UsageError(
            f"{place} is no dataset with splits and sources", "leave these options out, or ingest it first"
        )
    for image in images_at(place):
        digest = "" if image.reason or trouble(image.path) else file_sha256(image.path)
        yield Source(image.key, digest, image.row, image)


def open_all(sources: Sequence[Source], origin: Store, polarity: Polarity = "auto") -> tuple[list[Picture], list[Row]]:
    """(source, (H, W) uint8 at its own size) of the images that can be read, and a row per other with the reason.

    What was changed to make an image upright is in ``notes`` of its row.
    """
    pictures: list[Picture] = []
    refused: list[Row] = []
    for source in sources:
        if source.image is None:
            pictures.append((source, origin.load_image(source.row)))
            continue
        try:
            if source.image.reason:
                raise UnreadableError(source.image.reason)
            read = read_radiograph(source.image.path, polarity, source.image.box)
            toned = stretch(read.pixels)
        except UnreadableError as error:
            # The name of a DICOM file may be that of its patient.
            name = source.key if is_dicom(source.image.path) else source.image.path.name
            refused.append({"key": source.key, "file": name, "reason": str(error)})
            continue
        told = replace(source, row={**source.row, "notes": read.notes}) if read.notes else source
        pictures.append((told, toned.round().astype(np.uint8)))
    return pictures, refused
