"""A part of a dataset as a dataset of its own: fewer images, or the reference masks of a few patients only.

What a training must not know is not there: with the masks of 16 patients, grounding, mask head and segmenter can use
those of the same 16 and no others, whatever they are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrsynth.data.classes import read_classes
from cxrsynth.data.dataset import groundable
from cxrsynth.data.labelled import ALL, check_finished
from cxrsynth.data.paths import inside, refuse_overlap
from cxrsynth.data.patients import DatasetImage, subset
from cxrsynth.encoding import dumps, seal, sha256
from cxrsynth.errors import UsageError
from cxrsynth.ingest.convert import check_owner
from cxrsynth.lock import writing
from cxrsynth.records import Entry, Row
from cxrsynth.store import Store

SHARD = 64
ABOUT = "subset.json"
# Of a row without a mask, as ingest writes it.
UNLABELLED: Row = {"mask_use": "", "mask_classes": []}
# Say where the files of the old dataset are.
PLACES = ("shard", "image", "mask", "layers", "maps")


@dataclass(frozen=True, slots=True)
class Part:
    """Which images, and which of their masks.

    Attributes:
        split: ``train``, ``val``, ``test``, or ``all``.
        sources: only images of these; all by default.
        masks: masks are kept for so many patients, of those in split ``train`` whose masks may be trained on; 16 are
            among the 32. None keeps all masks.
        labelled: whether images without a mask are left out.
    """

    split: str = ALL
    sources: tuple[str, ...] = ()
    masks: int | None = None
    labelled: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What is in the new dataset: images, images with a mask, and the patients these are of."""

    images: int
    masks: int
    patients: int


def take_part(data: Path, out: Path, part: Part, advance: Callable[[int, int], None] | None = None) -> Taken:
    """Write a part of a dataset; calling it again goes on where it stopped.

    Args:
        advance: told (images done, all images) after every shard.

    Raises:
        UsageError: no image is left, fewer labelled patients than asked for, or ``out`` lies in ``data``.
        MismatchError: ``data`` is not finished, or ``out`` holds something else.
    """
    refuse_overlap(data, out, around=True)
    check_finished(data)
    old, store = Store(data), Store(out)
    rows = list(chosen(old, part))
    classes = read_classes(inside(data, "classes.json"), empty=True)
    held = [[receipt.shard, receipt.fingerprint] for receipt in old.receipts()]
    about = {
        "of": held,
        "split": part.split,
        "sources": list(part.sources),
        "masks": part.masks,
        "labelled": part.labelled,
        "planned": len(rows),
        "classes": classes,
    }
    fingerprint = sha256(dumps([about, [[row["key"], row["mask"] is None] for row in rows]]))
    check_owner(out, ABOUT, fingerprint)
    with writing(out):
        store.write(ABOUT, dumps({**about, "fingerprint": fingerprint, "seal": seal(about, fingerprint)}))
        store.write("classes.json", dumps({"classes": classes}))
        for shard, start in enumerate(range(0, len(rows), SHARD)):
            some = rows[start : start + SHARD]
            planned = [row["key"] for row in some]
            if not store.is_done(shard, fingerprint, planned):
                entries = (entry(old, row, len(classes)) for row in some)
                store.write_shard(shard, entries, fingerprint=fingerprint, planned=planned)
            if advance:
                advance(start + len(some), len(rows))
    labelled = [DatasetImage(store, row).patient for row in rows if row["mask"] is not None]
    return Taken(len(rows), len(labelled), len(set(labelled)))


def chosen(data: Store, part: Part) -> Iterator[Row]:
    """The rows of the part, in their order; a mask that is not kept is None.

    Raises:
        UsageError: no image is left, or there are fewer labelled patients than asked for.
    """
    rows = [
        row
        for row in data.rows()
        if part.split in (ALL, row.get("split")) and (not part.sources or row.get("source") in part.sources)
    ]
    if part.masks is not None:
        rows = without_masks(data, rows, part.masks)
    if part.labelled:
        rows = [row for row in rows if row["mask"] is not None]
    if not rows:
        raise UsageError(f"{data.root} has no image of that kind", f"cxrsynth info {data.root} says what it holds")
    yield from rows


def without_masks(data: Store, rows: Sequence[Row], patients: int) -> list[Row]:
    """The same rows, those of all but ``patients`` patients without their masks.

    Raises:
        UsageError: there are fewer patients with a mask that may be trained on.
    """
    able = [DatasetImage(data, row) for row in rows if row.get("split") == "train" and groundable(row)]
    if patients and not able:
        raise UsageError(f"{data.root} has no mask that may be trained on", "ingest images with masks")
    kept = {image.row["key"] for image in subset(able, patients)} if patients else set()
    return [row if row["key"] in kept else {**row, "mask": None, "layers": None, **UNLABELLED} for row in rows]


def entry(data: Store, row: Row, classes: int) -> Entry:
    """An image of the old dataset as it goes into the new one."""
    own = {name: value for name, value in row.items() if name not in PLACES}
    return Entry(own, data.load_image(row), data.load_mask(row), data.load_layers(row, classes), data.load_maps(row))
