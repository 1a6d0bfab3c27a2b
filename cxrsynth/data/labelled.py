"""Labelled images of several datasets under one set of classes, matched by name; everything is checked at the door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrsynth.data.dataset import groundable, trainable
from cxrsynth.data.documents import read_json, read_yaml
from cxrsynth.data.masks import MaskError, read_mask
from cxrsynth.data.paths import inside
from cxrsynth.data.patients import DatasetImage, subset
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.records import IGNORE, Row
from cxrsynth.store import Store

ALL = "all"  # in place of a split: every image, for external test sets whose own splits mean nothing here


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset to learn from.

    Attributes:
        root: its folder.
        weight: share of the draws, relative to the other datasets.
        images: at most the images of so many patients, 0 for all; a smaller number takes a subset of a larger one.
        without: keys of images that are left out, such as those of a fold.
    """

    root: Path
    weight: float = 1.0
    images: int = 0
    without: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Source:
        """``PATH``, ``PATH:WEIGHT`` or ``PATH:WEIGHT:IMAGES``.

        Raises:
            UsageError: a weight that is not positive.
        """
        path = text
        numbers: list[float] = []
        while len(numbers) < 2 and ":" in path and _is_number(path.rpartition(":")[2]):
            path, _, last = path.rpartition(":")
            numbers.insert(0, float(last))
        weight, images = (numbers + [1.0, 0.0][len(numbers) :])[:2]
        if weight <= 0 or images < 0 or images != int(images):
            raise UsageError(f"'{text}' is not PATH:WEIGHT:IMAGES", "half of the draws each: --data A:0.5 --data B:0.5")
        return cls(Path(path), weight, int(images))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class LabelledImage(DatasetImage):
    """An image whose mask tells of all classes asked for.

    Attributes:
        ids: id in the mask file -> number from 1 among the classes asked for.
        known: ids that the dataset declares.
    """

    ids: dict[int, int]
    known: tuple[int, ...]

    @property
    def mask_path(self) -> Path:
        """The mask's file."""
        return inside(self.store.root, self.row["mask"])

    def mask(self) -> np.ndarray:
        """(H, W) uint8: 0 background, 1 ... K in the order of the classes asked for, 255 where nobody labelled.

        Where classes overlap, each is taken from its own layer: a lung goes on below an opacity that is not asked
        for.

        Raises:
            MismatchError: the file has ids that the dataset does not declare.
        """
        try:
            stored, _ = read_mask(self.mask_path, self.known, ignore=True)
        except MaskError as error:
            raise MismatchError(
                f"{self.mask_path} {str(error).removeprefix('mask ')}",
                f"fix the mask, or declare its values in {self.store.root / 'classes.json'}",
            ) from error
        layers = self.store.load_layers(self.row, len(self.known))
        mask = np.where(stored == IGNORE, IGNORE, 0).astype(np.uint8)
        for place, number in enumerate(self.known):
            if number in self.ids:
                mask[stored == number if layers is None else layers[place]] = self.ids[number]
        return mask


def choose_classes(roots: Sequence[Path], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes to work with; datasets are matched by name, their ids may differ.

    Background is only what a dataset looked at and left out. So a class that one dataset does not declare is refused,
    rather than taken for background there.

    Raises:
        UsageError: a class is missing somewhere, or nothing was asked for and the datasets differ.
    """
    known = {root: tuple(Store(root).classes()) for root in roots}
    first = known[roots[0]]
    common = [name for name in first if all(name in names for names in known.values())]
    way_out = f"all have: {', '.join(common)}; type --classes {','.join(common)}" if common else "they share no class"
    if wanted:
        for root, names in known.items():
            missing = [name for name in wanted if name not in names]
            if missing:
                hint = way_out if len(known) > 1 else f"it has: {', '.join(names)}"
                raise UsageError(f"{root} does not label {', '.join(missing)}", hint)
        return tuple(dict.fromkeys(wanted))
    for root, names in known.items():
        if set(names) != set(first):
            raise UsageError(f"{roots[0]} labels {', '.join(first)}, but {root} {', '.join(names)}", way_out)
    return first


def gather(
    source: Source, split: str, classes: Sequence[str], keep: Callable[[Row], bool] | None = None
) -> list[LabelledImage]:
    """The images of a split whose masks tell of all ``classes``, masks checked.

    An image whose mask was drawn without one of the classes (``mask_classes``) is left out: there its absence means
    nothing.

    Args:
        split: ``train``, ``val``, ``test``, or ``all``.
        keep: a further condition on the row.

    Raises:
        UsageError: no dataset, or no such image.
        MismatchError: an unfinished shard, or a mask that does not fit its image.
    """
    store = Store(source.root)
    declared = store.classes()
    check_finished(source.root)
    ids = {declared[name]: number for number, name in enumerate(classes, start=1)}
    rows = [row for row in store.rows() if split in (ALL, row.get("split"))]
    if not rows:
        raise UsageError(
            f"{source.root} has no image in split '{split}'",
            "give images that split when they are ingested or generated, or name another dataset",
        )
    fit = [row for row in rows if row.get("mask") and set(classes) <= set(row.get("mask_classes", declared))]
    fit = [row for row in fit if (keep is None or keep(row)) and row["key"] not in source.without]
    if not fit:
        raise UsageError(
            f"no image of split '{split}' in {source.root} has a usable mask of {', '.join(classes)}",
            "ask for fewer --classes, or, to measure only, add --benchmark",
        )
    images = [LabelledImage(store, row, ids, tuple(declared.values())) for row in fit]
    images = subset(images, source.images)
    for image in images:
        check_mask(image)
    return images


def may_train(benchmark: bool) -> Callable[[Row], bool]:
    """Which masks may be learned from: with ``benchmark`` also those whose licence forbids giving the weights away."""
    return trainable if benchmark else groundable


def check_mask(image: LabelledImage) -> None:
    """Refuse a mask of another size than its image, or with unknown ids, before anything is trained."""
    size = image.image().shape[::-1]
    mask = image.mask()
    if (mask.shape[1], mask.shape[0]) != size:
        raise MismatchError(
            f"{image.mask_path} has {mask.shape[1]}x{mask.shape[0]} pixels, its image {size[0]}x{size[1]}",
            "write the mask at the image's size, or remove the receipt of its shard and make it again",
        )


def check_finished(root: Path) -> None:
    """Refuse a dataset that is still being made: a figure of a part would be taken for one of the whole.

    Raises:
        MismatchError: a shard without a receipt, fewer images than planned, or files of another size than stated.
    """
    store = Store(root)
    again = f"type the command that writes {root} again"
    receipts = list(store.receipts())
    done = {receipt.shard for receipt in receipts}
    folders = [
        path
        for path in sorted((root / "images").glob("[0-9]*"))
        if path.name.isdecimal() and int(path.name) not in done
    ]
    failed = [
        path
        for path in sorted((root / "failures").glob("[0-9]*.json"))
        if path.stem.isdecimal() and int(path.stem) not in done
    ]
    for path in folders + failed:
        raise MismatchError(f"{path} belongs to an unfinished shard", again)
    planned = sum(len(receipt.planned) for receipt in receipts)
    wanted = _planned(root)
    if planned < wanted:
        raise MismatchError(f"{root} has unfinished shards: {planned} of {wanted} images were made", again)
    for receipt in receipts:
        for relative, stated in receipt.files.items():
            if store.size(relative) != stated["size"]:
                what = f"{root / relative} is not what the receipt of shard {receipt.shard} says"
                raise MismatchError(what, f"{again}; cxrsynth verify {root} shows all")


def _planned(root: Path) -> int:
    """How many images the recipe of a dataset, or what was found at ingest, asks for; 0 where nothing says so."""
    recipe, summary = root / "recipe.yaml", root / "summary.json"
    if (root / "derived.json").exists():
        return whole(read_json(root / "derived.json"), "planned")
    if recipe.exists():
        return whole(read_yaml(recipe), "count")
    if summary.exists():
        return whole(read_json(summary), "planned")
    for about in ("segment.json", "subset.json"):
        if (root / about).exists():
            return whole(read_json(root / about), "planned")
    if (root / "ingest.json").exists():
        raise MismatchError(f"{root} was not ingested to its end", "run the ingest command again")
    return 0


def whole(body: object, name: str) -> int:
    """A whole number that a file states, 0 where it states none."""
    value = body.get(name, 0) if isinstance(body, dict) else 0
    return value if isinstance(value, int) else 0
