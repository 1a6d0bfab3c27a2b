"""Two sets of masks of the same images: how well the one agrees with the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxrsynth.data.masks import MaskError, read_mask
from cxrsynth.data.matching import MASKS, match, plain
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.mask_sets import Masks, gather, values_of
from cxrsynth.evaluate.metrics import TOLERANCE, Scores, score, worst
from cxrsynth.pages.sheet import Item, contact_sheet


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of all images that both sets have.

    Attributes:
        images: one per image, in the order of ``keys``.
        missing: keys of the truth that have no prediction; they are in no figure.
        refused: (key, reason) of the images of which one mask cannot be read; they are in no figure.
        resized: how many predictions had another size than the truth.
        worst: contact sheet of the images that agree least, or None if not asked for.
    """

    images: list[Scores]
    keys: list[str]
    patients: list[str]
    missing: list[str]
    refused: list[tuple[str, str]]
    resized: int
    worst: Image.Image | None

    def rows(self) -> Iterator[dict[str, Any]]:
        """One line per image; what says nothing about an image is None."""
        for key, patient, image in zip(self.keys, self.patients, self.images, strict=True):
            scores = {name: {m: None if np.isnan(v) else v for m, v in one.items()} for name, one in image.items()}
            yield {"key": key, "patient": patient, "scores": scores}


def compare_masks(
    pred: Path,
    true: Path,
    splits: Sequence[str] = (),
    spacing: float = 1.0,
    tolerance: float = TOLERANCE,
    shown: int = 0,
) -> Comparison:
    """Compare masks of the same images; classes are matched by name, images by key.

    A prediction of another size is brought to the truth's by nearest neighbours.

    Args:
        pred: dataset or folder of masks to measure.
        true: dataset or folder of masks that count.
        splits: of the truth: only these.
        spacing: mm per pixel of the truth, or 1 for distances in pixels.
        tolerance: of NSD, in the unit of ``spacing``.
        shown: how many of the images that agree least are shown.

    Raises:
        UsageError: the two have no image or no class in common.
    """
    ours, theirs = gather(pred), gather(true, splits)
    numbers = theirs.classes or ours.classes or numbered(theirs)
    ids = ours.classes or numbers
    if not numbers:
        raise UsageError(f"{true} has no labelled pixel and no classes.json", "name its classes in classes.json")
    if len(numbers) == 1:
        # One class nobody named: 0 and 255 are as good as 0 and 1.
        ours, theirs = (only(one, numbers) for one in (ours, theirs))
    shared = [name for name in numbers if name in ids]
    if not shared:
        raise UsageError(
            f"{pred} knows {', '.join(ids)}, {true} {', '.join(numbers)}",
            "give both the same class names in classes.json",
        )
    pairs_of = paired(ours, theirs)
    keys = list(pairs_of)
    if not keys:
        raise UsageError(
            f"{pred} and {true} have no image in common", "images are matched by key, or by file name in folders"
        )
    images: list[Scores] = []
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    resized = 0
    refused: list[tuple[str, str]] = []
    for key in keys:
        one, other = theirs.masks[key], ours.masks[pairs_of[key]]
        try:
            truth, mask = one.load(), renumber(other.load(), ids, numbers)
        except MaskError as error:
            refused.append((key, str(error)))
            continue
        if mask.shape != truth.shape:
            resized += 1
            mask = np.asarray(Image.fromarray(mask).resize(truth.shape[::-1], Image.Resampling.NEAREST))
        looked_for = {name: numbers[name] for name in shared if one.classes is None or name in one.classes}
        found = score(truth, mask, looked_for, (spacing, spacing), tolerance)
        nothing = dict.fromkeys(("dice", "iou", "hd95", "nsd"), float("nan"))
        images.append({name: found.get(name, nothing) for name in shared})
        if shown:
            pairs.append((truth, mask))
    lost = {key for key, _ in refused}
    keys = [key for key in keys if key not in lost]
    if not keys:
        raise UsageError(
            f"no mask can be compared: {refused[0][0]}: {refused[0][1]}", "write them as class ids, in PNG"
        )
    whose = [theirs.masks[key].patient for key in keys]
    pictures = [theirs.masks[key].image or ours.masks[pairs_of[key]].image for key in keys]
    sheet = worst_sheet(images, pairs, keys, pictures, numbers, shown) if shown else None
    missing = [key for key in theirs.masks if key not in pairs_of]
    return Comparison(images, keys, whose, missing, refused, resized, sheet)


def paired(ours: Masks, theirs: Masks) -> dict[str, str]:
    """Key of the truth -> key of the prediction of the same image, in the order of the truth.

    A DICOM segmentation belongs to the image that it refers to; where that says nothing, its file name counts.
    """
    keys, others = list(ours.masks), list(theirs.masks)
    found = match(keys, others, (plain, *MASKS)).of
    if not found and any(one.name for masks in (ours, theirs) for one in masks.masks.values()):
        names, files = ([one.name or key for key, one in masks.masks.items()] for masks in (ours, theirs))
        found = match(names, files, (plain, *MASKS)).of
    return {others[other]: keys[found[other]] for other in sorted(found)}


def only(masks: Masks, numbers: dict[str, int]) -> Masks:
    """The masks of a folder without names, read as those of the one class there is."""
    if masks.classes:
        return masks
    return Masks({}, {key: replace(one, ids=tuple(numbers.values())) for key, one in masks.masks.items()})


def numbered(masks: Masks) -> dict[str, int]:
    """Names for the values of masks that nobody has named: ``class_1`` and so on; one where all is black or white."""
    values = values_of(masks.masks.values())
    if values - {0} == {255}:
        return {"class_1": 1}
    return {f"class_{value}": value for value in sorted(values - {0, 255})}


def renumber(mask: np.ndarray, own: dict[str, int], wanted: dict[str, int]) -> np.ndarray:
    """(H, W) uint8 ids of one numbering -> the same classes in another; classes it does not know become background.

    A pixel that the prediction leaves undecided (255) is background: a measure asks for an answer.
    """
    table = np.zeros(256, np.uint8)
    for name, value in own.items():
        table[value] = wanted.get(name, 0)
    return table[mask]


def worst_sheet(
    images: Sequence[Scores],
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    keys: Sequence[str],
    pictures: Sequence[Path | None],
    classes: dict[str, int],
    shown: int,
) -> Image.Image | None:
    """The images that agree least: truth and prediction, side by side; on black where there is no image."""
    items = []
    for i in worst(images)[:shown].tolist():
        truth, mask = pairs[i]
        path = pictures[i]
        image = np.zeros_like(truth)
        if path is not None:
            with suppress(MaskError):
                small = Image.fromarray(read_mask(path)[0])
                image = np.asarray(small if small.size == truth.shape[::-1] else small.resize(truth.shape[::-1]))
        text = ", ".join(f"{name.replace('_', ' ')} {image['dice']:.2f}" for name, image in images[i].items())
        items.append(Item(image, truth, title=keys[i], text="truth"))
        items.append(Item(image, mask, title=keys[i], text=f"Dice: {text}"))
    title = f"{len(items) // 2} of {len(images)} images with the lowest mean Dice"
    return contact_sheet(items, columns=2, legend=classes, title=title)
