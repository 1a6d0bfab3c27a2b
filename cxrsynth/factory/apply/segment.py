"""Apply a trained segmentation network to images: an image, a folder of images, or a dataset.

The result has the on-disk form, with masks at the size of each image, so that report, export and training take it. It
is the "teacher's masks" arm of a comparison too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.data.dicom import is_dicom
from cxrsynth.data.labelled import check_finished
from cxrsynth.data.paths import inside, refuse_overlap, shown, trouble
from cxrsynth.encoding import dumps, seal, sha256
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.ingest.image import UnreadableError, read_gray, stretch
from cxrsynth.ingest.radiograph import Polarity, images_at, read_radiograph, was_turned
from cxrsynth.lock import writing
from cxrsynth.masks.layers import paint
from cxrsynth.masks.morphology import Morphology
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.pages.sheet import Item, contact_sheet, save
from cxrsynth.records import Entry, Row
from cxrsynth.store import Store

SHARD = 64
SHEET_IMAGES = 24
CLEANING = Morphology()
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
        refused: ``{"path", "reason"}`` of every image that could not be read.
        turned: images that were not upright.
    """

    images: int = 0
    turned: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)


def find(images: Path, split: str = "") -> list[Picture]:
    """The images behind a path, sorted.

    Args:
        images: an image, a folder of images, or a dataset.
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
    common = {"prompt": "Frontal chest X-ray.", "split": "test", "source": shown(images.resolve().stem)}
    found = []
    for image in images_at(images):
        own = {"key": image.key, "patient": image.row.get("patient", image.key)}
        # The row of a DICOM file names nobody; the name of its folder may.
        row = {**image.row, "split": "test"} if is_dicom(image.path) else {**common, **own}
        found.append(Picture(row, image.path, True, image.reason))
    return found


def read(picture: Picture, polarity: Polarity = "auto") -> tuple[np.ndarray, list[str]]:
    """(H, W) uint8 at the image's own size, upright; notes on what was changed.

    Raises:
        UnreadableError: as in ingest; the message is the reason.
    """
    if picture.reason:
        raise UnreadableError(picture.reason)
    if not picture.raw:
        return read_gray(picture.path)[0].round().astype(np.uint8), []
    found = read_radiograph(picture.path, polarity)
    return stretch(found.pixels).round().astype(np.uint8), found.notes


def segment(
    segmenter: Segmenter,
    images: Path,
    out: Path,
    split: str = "",
    advance: Callable[[int, int], None] | None = None,
    polarity: Polarity = "auto",
) -> Segmented:
    """Label images and write them as a dataset; calling it again goes on where it stopped.

    Args:
        advance: told (images done, all images) after every shard.
        polarity: whether inverted, turned and mirrored images are looked for; never in a dataset.

    Raises:
        UsageError: no image, or none that can be read.
        MismatchError: ``out`` holds masks of another network or of other images.
    """
    refuse_overlap(images, out, around=True)
    pictures = find(images, split)
    store = Store(out)
    classes = [{"id": i, "name": name, "phrase": name.replace("_", " ")} for i, name in enumerate(segmenter.classes, 1)]
    keys = [picture.row["key"] for picture in pictures]
    sizes = [0 if trouble(picture.path) else picture.path.stat().st_size for picture in pictures]
    weights = segmenter.config["sha256"]
    plan = {"weights_sha256": weights, "planned": len(keys), "arch": segmenter.config["arch"], "classes": classes}
    looked = [polarity] if any(picture.raw for picture in pictures) else []
    fingerprint = sha256(dumps([weights, keys, sizes, *looked, CLEANING.model_dump(mode="json")]))
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
            readable, refused = take(part, polarity)
            result.refused += refused
            if not store.is_done(shard, fingerprint, planned):
                masks = segmenter([image for _, image in readable])
                entries = [
                    Entry(row_of(picture, segmenter), image, clean(mask, image, segmenter.classes))
                    for (picture, image), mask in zip(readable, masks, strict=True)
                ]
                store.write_shard(shard, entries, fingerprint=fingerprint, planned=planned)
            result.images += len(readable)
            result.turned += sum(was_turned(picture.row.get("notes") or ()) for picture, _ in readable if picture.raw)
            if advance:
                advance(start + len(part), len(pictures))
        if result.images:
            save(overlays(store, segmenter.classes), out / "contact.png")
    if not result.images:
        first = result.refused[0]
        raise UsageError(
            f"{first['path']}: {first['reason']}", "none of the images can be read; give 8- or 16-bit gray"
        )
    return result


def take(
    part: Sequence[Picture], polarity: Polarity = "auto"
) -> tuple[list[tuple[Picture, np.ndarray]], list[dict[str, str]]]:
    """Read what can be read, and say why the rest cannot; one broken file does not stop the others.

    What was changed to make an image upright is in ``notes`` of its row.
    """
    readable: list[tuple[Picture, np.ndarray]] = []
    refused = []
    for picture in part:
        try:
            image, notes = read(picture, polarity)
        except UnreadableError as error:
            refused.append({"path": str(picture.path), "reason": str(error)})
            continue
        told = replace(picture, row={**picture.row, "notes": notes}) if notes else picture
        readable.append((told, image))
    return readable, refused


def clean(mask: np.ndarray, image: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(H, W) uint8 ids from 1 -> the same without islands and holes, as masks from attention are cleaned."""
    ids = list(range(1, len(classes) + 1))
    certain = np.stack([mask == number for number in ids]).astype(np.float32)  # (K, H, W)
    return paint(CLEANING.named(classes)(image, certain), np.ones(len(ids), bool), ids)


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
