"""How well two label maps agree: Dice, IoU, HD95 and NSD per class, with intervals resampled by patient.

Empty masks: a class that is in neither map of an image says nothing about the image, so it is NaN there and left out of
means, and ``n`` counts the images that are left. A class that is in only one of the two maps is a miss or an
invention: Dice, IoU and NSD are 0, HD95 is the diagonal of the image, the largest distance there can be. Pixels
marked 255 in the truth were labelled by nobody and are taken out of both maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from cxrsynth.domain.overlap import dice
from cxrsynth.errors import MismatchError
from cxrsynth.evaluate.results import bootstrap
from cxrsynth.records import IGNORE

METRICS = ("dice", "iou", "hd95", "nsd")
TOLERANCE = 2.0
# class -> metric -> value of one image
Scores = dict[str, dict[str, float]]


def overlap(truth: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """(H, W) bool twice -> Dice and IoU; NaN where both are empty."""
    value = float(dice(truth, mask))
    return value, value / (2 - value)


def surface(truth: np.ndarray, mask: np.ndarray, spacing: Sequence[float], tolerance: float) -> tuple[float, float]:
    """(H, W) bool twice -> HD95 and NSD.

    HD95 is the larger of the 95th percentiles of both directed distances between the rims (as MONAI and DeepMind's
    surface-distance take it); NSD the share of both rims that lies within ``tolerance`` of the other (Nikolov et al.,
    JMIR 2021). A rim is what an erosion by one pixel removes; the image's edge belongs to it.

    Args:
        spacing: distance of rows and of columns, in the unit of ``tolerance`` and of the result.
    """
    if not truth.any() and not mask.any():
        return float("nan"), float("nan")
    if not truth.any() or not mask.any():
        return float(np.hypot(truth.shape[0] * spacing[0], truth.shape[1] * spacing[1])), 0.0
    # Distances inside the box around both are all that is needed, and much faster than those of the whole image.
    rows, columns = (np.flatnonzero((truth | mask).any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    rims = [part[box] & ~ndimage.binary_erosion(part[box]) for part in (truth, mask)]
    there, back = (
        ndimage.distance_transform_edt(~rims[1 - i], sampling=spacing)[rims[i]] for i in range(2)
    )  # distances of each rim's pixels to the other rim
    near = int((there <= tolerance).sum()) + int((back <= tolerance).sum())
    return float(max(np.percentile(there, 95), np.percentile(back, 95))), near / (len(there) + len(back))


def score(
    truth: np.ndarray,
    mask: np.ndarray,
    classes: Mapping[str, int],
    spacing: Sequence[float] = (1.0, 1.0),
    tolerance: float = TOLERANCE,
) -> Scores:
    """Figures of one image.

    Args:
        truth: (H, W) uint8 class ids, 255 unlabelled.
        mask: (H, W) uint8 class ids of the same numbering.
        classes: class name -> id.
        spacing: mm between rows and between columns, or (1, 1) for pixels; unit of ``hd95`` and ``tolerance``.

    Raises:
        MismatchError: the maps differ in size.
    """
    if truth.shape != mask.shape:
        what = f"the truth has {truth.shape[1]}x{truth.shape[0]} pixels, the mask {mask.shape[1]}x{mask.shape[0]}"
        raise MismatchError(what, "compare masks at the size of their image")
    seen = truth != IGNORE
    found: Scores = {}
    for name, number in classes.items():
        theirs, ours = (truth == number) & seen, (mask == number) & seen
        values = (*overlap(theirs, ours), *surface(theirs, ours, spacing, tolerance))
        found[name] = dict(zip(METRICS, values, strict=True))
    return found


def column(images: Iterable[Scores], klass: str, metric: str) -> np.ndarray:
    """(N,) float64 values of one class and metric."""
    return np.array([image[klass][metric] for image in images])


def average(images: Sequence[Scores], metric: str) -> np.ndarray:
    """(N,) float64 mean over the classes that count in each image; NaN where none does."""
    table = np.array([[image[klass][metric] for klass in image] for image in images])
    count = (~np.isnan(table)).sum(axis=1)
    return np.where(count > 0, np.nansum(table, axis=1) / np.maximum(count, 1), np.nan)


def summarise(images: Sequence[Scores], patients: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """Mean and 95 % interval of every class and metric, and of the classes' mean.

    Returns:
        ``{"class", "metric", "value", "lo", "hi", "n"}`` each; a class that no image shows is left out.
    """
    found = []
    names = list(images[0]) if images else []
    for klass in [*names, "mean"]:
        for metric in METRICS:
            values = average(images, metric) if klass == "mean" else column(images, klass, metric)
            counts = ~np.isnan(values)
            if counts.any():
                groups = [patient for patient, use in zip(patients, counts, strict=True) if use]
                value, low, high = bootstrap(values[counts], groups, seed=seed)
                found.append(
                    {"class": klass, "metric": metric, "value": value, "lo": low, "hi": high, "n": int(counts.sum())}
                )
    return found


def worst(images: Sequence[Scores], metric: str = "dice") -> np.ndarray:
    """Indices of the images from the lowest mean of a metric to the highest; images that say nothing come last."""
    return np.argsort(np.nan_to_num(average(images, metric), nan=np.inf), kind="stable")
