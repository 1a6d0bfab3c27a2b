"""Images -> the on-disk form, shard by shard; re-running the command goes on where it stopped."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.data.documents import read_json, read_json_lines
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.encoding import dumps, lines, seal, sha256
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.ingest.image import TONE, Layout, SourceImage, UnreadableError, read_mask, square, stretch
from cxrsynth.ingest.radiograph import Polarity, Radiograph, read_radiograph
from cxrsynth.lock import writing
from cxrsynth.pages.sheet import Item, contact_sheet
from cxrsynth.records import Entry, Row
from cxrsynth.store import Store

SHARD = 64
LARGEST = 4096  # side, pixels
SHEET_IMAGES = 24


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the images.

    Attributes:
        planned: images that the layout found.
        kept: images in the dataset.
        masks: images with a mask.
        by_source: source -> split -> images.
        refused: one row per image that is not there, with its reason.
        notes: one row per image that is there but not as it was (16 bits, mask dropped ...).
        skipped: kind of file -> how many were not read because of their type.
        remarks: what is to be known of the folder as a whole.
    """

    planned: int
    kept: int
    masks: int
    by_source: dict[str, dict[str, int]]
    refused: list[Row] = field(default_factory=list)
    notes: list[Row] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def ingest(
    layout: Layout,
    out: Path,
    size: int = 256,
    on_shard: Callable[[int, int], None] | None = None,
    polarity: Polarity = "auto",
) -> Summary:
    """Read every image of a layout and write the dataset.

    Args:
        size: side of the square images, pixels.
        on_shard: called with (images done, images planned) after every shard.
        polarity: whether inverted, turned and mirrored images are looked for (see `read_radiograph`).

    Raises:
        UsageError: ``out`` lies in the folder that is read, or somebody else writes to it.
        MismatchError: ``out`` holds images that were ingested otherwise, or something else.
    """
    if not 32 <= size <= LARGEST or size % 8:
        raise UsageError(f"size {size} is not a multiple of 8 from 32 to {LARGEST}", "try --size 256")
    refuse_overlap(layout.root, out, around=True)
    images = list(layout.images())
    classes = layout.classes()
    plan = {
        "layout": type(layout).__name__,
        "options": layout.options,
        "size": size,
        "tone": list(TONE),
        "classes": classes,
        "polarity": polarity,
    }
    fingerprint = sha256(dumps([plan, [[image.key, image.row, image.labels, image.box] for image in images]]))
    check_owner(out, "ingest.json", fingerprint)
    store = Store(out)
    ids = {item["name"]: item["id"] for item in classes}
    with writing(out):
        store.write("ingest.json", dumps({**plan, "fingerprint": fingerprint, "seal": seal(plan, fingerprint)}))
        store.write("classes.json", dumps({"classes": classes}))
        for shard, start in enumerate(range(0, len(images), SHARD)):
            part = images[start : start + SHARD]
            planned = [image.key for image in part]
            if not store.is_done(shard, fingerprint, planned):
                entries, troubles = read_shard(part, ids, size, polarity)
                store.write(f"troubles/{shard:05d}.jsonl", lines(troubles))
                store.write_shard(shard, entries, fingerprint=fingerprint, planned=planned)
            if on_shard:
                on_shard(start + len(part), len(images))
        result = summarise(store, len(images), layout)
        store.write("summary.json", dumps(result.as_json()))
        if result.kept:
            store.write("contact.png", contact(store))
    return result


def check_owner(out: Path, about: str, fingerprint: str) -> None:
    """Refuse a folder that holds anything but what is about to be written, or a part of it.

    Args:
        about: name of the file that says what the folder is for.

    Raises:
        MismatchError: it holds something else.
    """
    held = out / about
    if held.exists():
        body = read_json(held)
        if not isinstance(body, dict) or body.get("fingerprint") != fingerprint:
            raise MismatchError(
                f"{out} holds other images, or the same ones made otherwise", "choose another folder with -o"
            )
    elif out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise MismatchError(f"{out} is not empty and holds something else", "choose another folder with -o")


def read_shard(
    images: list[SourceImage], ids: dict[str, int], size: int, polarity: Polarity = "auto"
) -> tuple[list[Entry], list[Row]]:
    """The images of a shard, and a row for everything that is not as it should be; nothing stops the rest."""
    entries: list[Entry] = []
    troubles: list[Row] = []
    for image in images:
        source = image.row.get("source", "")
        try:
            if image.reason:
                raise UnreadableError(image.reason)
            read = read_radiograph(image.path, polarity, image.box)
            pixels, notes = square(stretch(read.pixels), size), [*image.notes, *read.notes]
        except UnreadableError as error:
            troubles.append({"key": image.key, "source": source, "kept": False, "reason": str(error)})
            continue
        mask: np.ndarray | None = None
        height, width = read.pixels.shape
        box = list(image.box or (0, 0, width, height))  # of the image, in its own pixels: boxes are given in them
        row = {**image.row, "aspect": round(width / height, 4), "squashed": width != height, "content_box": box}
        if isinstance(row.get("pixel_spacing"), list):
            row["pixel_spacing"] = squashed(row["pixel_spacing"], read, size)
        if image.mask is not None:
            try:
                mask, more = read_mask(image, ids, read.shape, size, read.turn)
                notes += more
            except UnreadableError as error:
                notes.append(str(error))
                row |= {"mask_use": "", "mask_classes": []}
        troubles.extend({"key": image.key, "source": source, "kept": True, "reason": note} for note in notes)
        entries.append(Entry(row, pixels, mask))
    return entries, troubles


def squashed(spacing: list[float], read: Radiograph, size: int) -> list[float]:
    """mm between rows and columns in the file -> the same in the square image."""
    down, across = reversed(spacing) if read.turn.transpose else spacing
    height, width = read.pixels.shape
    return [round(down * height / size, 5), round(across * width / size, 5)]


def summarise(store: Store, planned: int, layout: Layout) -> Summary:
    """Count what is on disk, and what never came there."""
    by_source: dict[str, Counter[str]] = {}
    kept = masks = 0
    for row in store.rows():
        kept += 1
        masks += row["mask"] is not None
        by_source.setdefault(row["source"], Counter())[row["split"]] += 1
    troubles = [row for path in sorted((store.root / "troubles").glob("[0-9]*.jsonl")) for row in read_json_lines(path)]
    found = layout.found
    for place, reason in found.troubles if found else ():
        troubles.append({"key": place, "source": "", "kept": False, "reason": reason})
    return Summary(
        planned,
        kept,
        masks,
        {source: dict(count) for source, count in sorted(by_source.items())},
        [row for row in troubles if not row["kept"]],
        [row for row in troubles if row["kept"]],
        dict(found.skipped) if found else {},
        list(layout.notes),
    )


def contact(store: Store) -> bytes:
    """PNG of images spread over the whole dataset, those with masks outlined."""
    rows = list(store.rows())
    step = max(1, len(rows) // SHEET_IMAGES)
    chosen = rows[::step][:SHEET_IMAGES]
    items = [
        Item(store.load_image(row), store.load_mask(row), title=row["key"], text=f"{row['source']} · {row['prompt']}")
        for row in chosen
    ]
    sheet = contact_sheet(items, columns=4, legend=store.classes(), title=f"{len(rows)} images")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
