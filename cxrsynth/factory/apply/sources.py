"""The films that are to be labelled: where they are, what is known of them, and their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrsynth.errors import UsageError
from cxrsynth.ingest.collection import safe
from cxrsynth.ingest.film import Film, UnreadableError, crop, read_gray, stretch
from cxrsynth.ingest.folder import Folder
from cxrsynth.store import Row, Store, file_sha256


@dataclass(frozen=True, slots=True)
class Source:
    """A film to label.

    Attributes:
        key: file stem in the result.
        digest: sha256 of its file.
        row: what is known about it.
        film: where its picture is, or None where a dataset holds it.
    """

    key: str
    digest: str
    row: Row
    film: Film | None = None


Picture = tuple[Source, np.ndarray]


def find(images: Path, splits: Sequence[str] = (), origins: Sequence[str] = ()) -> Iterator[Source]:
    """The films behind a path, in an order that does not depend on the machine.

    Raises:
        UsageError: there is no such path, or no film in it.
    """
    if (images / "classes.json").is_file() and (images / "shards").is_dir():
        store = Store(images)
        digests = {path: stated["sha256"] for receipt in store.receipts() for path, stated in receipt.files.items()}
        rows = [
            row
            for row in store.rows()
            if (not splits or row.get("split") in splits) and (not origins or row.get("source") in origins)
        ]
        if not rows:
            raise UsageError(f"{images} has no finished film that fits", "leave --split and --source out")
        yield from (Source(row["key"], digests[row["image"]], row) for row in rows)
        return
    if splits or origins:
        raise UsageError(
            f"{images} is no dataset with splits and sources", "leave these options out, or ingest it first"
        )
    if images.is_file():
        key = safe(images.stem)
        films = iter([Film(key, images, {"key": key, "prompt": "", "split": "test", "patient": key})])
    elif images.is_dir():
        films = Folder(images).films()
    else:
        raise UsageError(f"{images} does not exist", "name a picture, a folder of pictures, or a dataset")
    for film in films:
        yield Source(film.key, file_sha256(film.path), film.row, film)


def open_all(sources: Sequence[Source], origin: Store) -> tuple[list[Picture], list[Row]]:
    """(source, (H, W) uint8 at its own size) of the films that can be read, and a row per other with the reason."""
    pictures: list[Picture] = []
    refused: list[Row] = []
    for source in sources:
        if source.film is None:
            pictures.append((source, origin.load_image(source.row)))
            continue
        try:
            array, _ = read_gray(source.film.path)
            toned = stretch(crop(array, source.film.box))
        except UnreadableError as error:
            refused.append({"key": source.key, "file": source.film.path.name, "reason": str(error)})
            continue
        pictures.append((source, toned.round().astype(np.uint8)))
    return pictures, refused
