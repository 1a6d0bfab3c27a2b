"""Apply a trained segmentation network to images: a picture, a folder of pictures, or a dataset.

The result has the on-disk form, with masks at the size of each image, so that report, export and training take it. It
is the "teacher's masks" arm of a comparison too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.data.keys import safe
from cxrsynth.data.labelled import check_finished
from cxrsynth.data.paths import inside, refuse_overlap, shown, trouble
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.ingest.folder import SUFFIXES, Folder
from cxrsynth.ingest.image import SourceImage, UnreadableError, read_gray, stretch
from cxrsynth.lock import writing
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.pages.sheet import Item, contact_sheet, save
from cxrsynth.store import Entry, Row, Store, dumps, seal, sha256

SHARD = 64
SHEET_IMAGES = 24
# Belong to the masks that were there before.
DROPPED = ("shard", "image", "mask", "layers", "maps", "phrases", "present", "scores")


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to label; nothing is read yet.

    Attributes:
        row: what is known about it, with its key.
        path: the file.
        raw: whether it comes from outside and its tone has to be stretched, as ingest does.
        reason: why it is refused without being opened; empty for all others.
    """

    row: Row
    path: Path
    raw: bool
    reason: str = ""


@dataclass(slots=True)
class Segmented:
    """What became of the images.

    Attributes:
        images: images with a mask in the dataset.
        refused: ``{"path", "reason"}`` of every picture that could not be read.
    """

    images: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)


def find(images: Path, split: str = "") -> list[Picture]:
    """The images behind a path, sorted.

    Args:
        images: a picture, a folder of pictures, or a dataset.
        split: of a dataset, only this split.

    Raises:
        UsageError: there is no image.
    """
    if (images / "classes.json").exists() and (images / "shards").is_dir():
        check_finished(images)
        rows = [row for row in Store(images).rows() if not split or row.get("split") == split]
        if not rows:
            raise UsageError(f"{images} has no image in split '{split}'", "leave out --split to label all images")
        return [Picture(row, inside(images, row["image"]), raw=False) for row in rows]
    if split:
        raise UsageError(f"{images} is no dataset and has no splits", "leave out --split")
    if images.is_file():
        key = safe(images.stem)
        found: list[SourceImage] = [SourceImage(key, images, {"key": key, "patient": key})]
    elif images.is_dir():
        found = list(Folder(images).images())
    else:
        raise UsageError(f"{images} does not exist", f"name a picture ({', '.join(sorted(SUFFIXES))}) or a folder")
    common = {"prompt": "Frontal chest X-ray.", "split": "test", "source": shown(images.resolve().stem)}
    return [
        Picture(
            {**common, "key": image.key, "patient": image.row.get("patient", image.key)}, image.path, True, image.reason
        )
        for image in found
    ]


def read(picture: Picture) -> np.ndarray:
    """(H, W) uint8 at the image's own size.

    Raises:
        UnreadableError: as in ingest; the message is the reason.
    """
    if picture.reason:
        raise UnreadableError(picture.reason)
    array, _ = read_gray(picture.path)
    return (stretch(array) if picture.raw else array).round().astype(np.uint8)


def segment(
    segmenter: Segmenter,
    images: Path,
    out: Path,
    split: str = "",
    advance: Callable[[int, int], None] | None = None,
) -> Segmented:
    """Label images and write them as a dataset; calling it again goes on where it stopped.

    Args:
        advance: told (images done, all images) after every shard.

    Raises:
        UsageError: no image, or none that can be read.
        MismatchError: ``out`` holds masks of another network or of other images.
    """
    pictures = find(images, split)
    refuse_overlap(images, out)
    store = Store(out)
    classes = [{"id": i, "name": name, "phrase": name.replace("_", " ")} for i, name in enumerate(segmenter.classes, 1)]
    keys = [picture.row["key"] for picture in pictures]
    sizes = [0 if trouble(picture.path) else picture.path.stat().st_size for picture in pictures]
    weights = segmenter.config["sha256"]
    plan = {"weights_sha256": weights, "planned": len(keys), "arch": segmenter.config["arch"], "classes": classes}
    fingerprint = sha256(dumps([weights, keys, sizes]))
    before = [receipt.fingerprint for receipt in store.receipts()]
    if (out / "classes.json").exists() and not (out / "segment.json").exists():
        raise MismatchError(f"{out} holds another dataset", "choose another folder with -o")
    if any(other != fingerprint for other in before):
        raise MismatchError(f"{out} holds masks of other images or of another network", "choose another folder with -o")
    result = Segmented()
    with writing(out):
        sealed = {**plan, "fingerprint": fingerprint, "seal": seal(plan, fingerprint)}
        store.write("segment.json", dumps(sealed))
        store.write("classes.json", dumps({"background": 0, "ignore": 255, "classes": classes}))
        for shard, start in enumerate(range(0, len(pictures), SHARD)):
            part = pictures[start : start + SHARD]
            planned = keys[start : start + SHARD]
            readable, refused = take(part)
            result.refused += refused
            if not store.is_done(shard, fingerprint, planned):
                masks = segmenter([image for _, image in readable])
                entries = [
                    Entry(row_of(picture, segmenter), image, mask)
                    for (picture, image), mask in zip(readable, masks, strict=True)
                ]
                store.write_shard(shard, entries, fingerprint=fingerprint, planned=planned)
            result.images += len(readable)
            if advance:
                advance(start + len(part), len(pictures))
        if result.images:
            save(overlays(store, segmenter.classes), out / "contact.png")
    if not result.images:
        first = result.refused[0]
        raise UsageError(
            f"{first['path']}: {first['reason']}", "none of the pictures can be read; give 8- or 16-bit gray"
        )
    return result


def take(part: Sequence[Picture]) -> tuple[list[tuple[Picture, np.ndarray]], list[dict[str, str]]]:
    """Read what can be read, and say why the rest cannot; one broken file does not stop the others."""
    readable: list[tuple[Picture, np.ndarray]] = []
    refused = []
    for picture in part:
        try:
            readable.append((picture, read(picture)))
        except UnreadableError as error:
            refused.append({"path": str(picture.path), "reason": str(error)})
    return readable, refused


def row_of(picture: Picture, segmenter: Segmenter) -> Row:
    """The row of a labelled image: the licence of a network's masks is that of the masks it learned from."""
    kept: dict[str, Any] = {name: value for name, value in picture.row.items() if name not in DROPPED}
    use = "benchmark" if segmenter.config.get("benchmark") or kept.get("use") == "test" else "train"
    named = {"mask_classes": list(segmenter.classes), "mask_use": use, "mask_definition": "network"}
    return {**kept, **named, "mask_by": segmenter.config["sha256"][:12]}


def overlays(store: Store, classes: Sequence[str]) -> Any:
    """A sheet of images spread over the dataset, with their masks (RGB picture)."""
    rows = list(store.rows())
    chosen = rows[:: max(1, len(rows) // SHEET_IMAGES)][:SHEET_IMAGES]

    def items() -> Iterator[Item]:
        for row in chosen:
            yield Item(store.load_image(row), store.load_mask(row), title=row["key"], text=row.get("source", ""))

    legend = {name: i for i, name in enumerate(classes, 1)}
    return contact_sheet(list(items()), columns=min(4, len(chosen)), legend=legend, title=f"{len(rows)} images")
