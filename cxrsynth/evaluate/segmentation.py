"""A trained segmentation network against reference masks: figures per class with intervals, and the worst images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from cxrsynth.data.labelled import LabelledImage, Source, gather
from cxrsynth.data.patients import patients_seen, refuse_seen
from cxrsynth.domain.overlap import dice
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.metrics import METRICS, TOLERANCE, Scores, score, summarise, worst
from cxrsynth.evaluate.results import Record, record
from cxrsynth.nets.network_folder import locate
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.nets.segmenter import predict as masks_of
from cxrsynth.pages.worst import SHOWN, worst_sheet
from cxrsynth.records import IGNORE, Row
from cxrsynth.store import Store

CHUNK = 16


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of a network on the images of a split.

    Attributes:
        images: class -> metric -> value, one per image.
        keys: of the images, in the same order.
        patients: of the images.
        unit: of ``hd95`` and of the tolerance of ``nsd``: ``mm`` or ``px``.
        summary: what `summarise` says.
        picture: the worst images, RGB.
    """

    images: list[Scores]
    keys: list[str]
    patients: list[str]
    unit: str
    summary: list[dict[str, Any]]
    picture: Image.Image

    def records(self, arm: str, dataset: str, benchmark: str = "seg", seeds: Sequence[int] = (0,)) -> list[Record]:
        """The summary in the tidy form; distances in mm are named so (``hd95_mm``), others are in pixels."""
        return [
            record(
                benchmark, arm, dataset, self.metric(item["metric"]), (item["value"], item["lo"], item["hi"]),
                item["n"], item["class"], seeds,
            )
            for item in self.summary
        ]  # fmt: skip

    def metric(self, name: str) -> str:
        """The name of a metric with its unit."""
        return f"{name}_mm" if self.unit == "mm" and name in ("hd95", "nsd") else name

    def as_json(self) -> dict[str, Any]:
        """Every image's figures, for paired tests; what does not count is null."""
        rows = [
            {
                "key": key,
                "patient": patient,
                "scores": {
                    klass: {
                        metric: None if values[metric] != values[metric] else round(values[metric], 5)
                        for metric in METRICS
                    }
                    for klass, values in image.items()
                },
            }
            for key, patient, image in zip(self.keys, self.patients, self.images, strict=True)
        ]
        return {"unit": self.unit, "tolerance": TOLERANCE, "images": rows}


def evaluate_segmenter(
    segmenter: Segmenter,
    data: Path,
    split: str = "test",
    classes: Sequence[str] = (),
    sources: Sequence[str] = (),
    learned: dict[str, list[str]] | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compare a network with the masks of a split, each image at its own size.

    Classes match by name: the network's channels and the dataset's ids may differ.

    Args:
        classes: what to measure; by default all classes that both know.
        sources: only images of these sources.
        learned: patients the network was trained on, as `patients_of` gives them.
        advance: told (images done, all images).

    Raises:
        UsageError: network and dataset share no class, or the split is empty.
        MismatchError: as in `gather`; or an image's patient was trained on.
    """
    known = Store(data).classes()
    shared = [name for name in segmenter.classes if name in known]
    wanted = list(classes) or shared
    for name in wanted:
        if name not in shared:
            raise UsageError(
                f"'{name}' is not both a class of the network ({', '.join(segmenter.classes)}) "
                f"and of {data} ({', '.join(known)})",
                f"both have: {', '.join(shared)}" if shared else "train on a dataset with the same class names",
            )
    if not wanted:
        raise UsageError(
            f"the network knows {', '.join(segmenter.classes)}, {data} {', '.join(known)}",
            "train on a dataset with the same class names",
        )
    images = gather(Source(data), split, wanted, lambda row: not sources or row.get("source") in sources)
    if split != "train":
        refuse_seen(images, (learned or {}).get("train", []))
    spacing = [spacing_of(image.row) for image in images]
    in_mm = all(value is not None for value in spacing)
    numbers = {name: i for i, name in enumerate(wanted, start=1)}
    # Channel of the network -> number among the classes asked for; its other classes are background here.
    table = np.zeros(256, np.uint8)
    for name, i in numbers.items():
        table[segmenter.classes.index(name) + 1] = i
    scores: list[Scores] = []
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        masks = segmenter([image.image() for image in part])
        for image, mask, mm in zip(part, masks, spacing[start:], strict=False):
            scores.append(score(image.mask(), table[mask], numbers, mm if in_mm and mm else (1.0, 1.0)))
        if advance:
            advance(start + len(part), len(images))
    patients = [image.patient for image in images]
    shown = worst(scores)[:SHOWN]
    pixels = [images[i].image() for i in shown]
    picture = worst_sheet(
        pixels,
        [images[i].mask() for i in shown],
        [table[mask] for mask in segmenter(pixels)],
        [images[i].row["key"] for i in shown],
        np.array([[scores[i][name]["dice"] for name in wanted] for i in shown]),
        wanted,
        f"the worst of {len(images)} images, {data.resolve().name}:{split}",
    )
    keys = [image.row["key"] for image in images]
    return Evaluation(scores, keys, patients, "mm" if in_mm else "px", summarise(scores, patients), picture)


def spacing_of(row: Row) -> tuple[float, float] | None:
    """mm between the rows and between the columns of the stored image, where the dataset says so."""
    value = row.get("pixel_spacing")
    if not isinstance(value, list):  # a text, in datasets of a table that was read before this column meant anything
        return None
    return float(value[0]), float(value[1])


def patients_of(folder: Path) -> dict[str, list[str]]:
    """The patients a trained network has seen: ``{"train": [...], "val": [...]}``."""
    return patients_seen(locate(folder))


def dice_table(truths: Sequence[np.ndarray], masks: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """(N, K) float64 Dice per image and class; NaN where a class is in neither mask, 255 of the truth left out."""
    table = np.empty((len(truths), classes))
    for i, (truth, mask) in enumerate(zip(truths, masks, strict=True)):
        seen = truth != IGNORE
        for k in range(classes):
            table[i, k] = dice((truth == k + 1) & seen, (mask == k + 1) & seen)
    return table


def validate(
    network: nn.Module,
    images: Sequence[LabelledImage],
    classes: int,
    size: int,
    device: torch.device,
    precision: str,
    batch: int,
) -> np.ndarray:
    """(N, K) Dice of a network in training, of images at their own size; it is left in eval mode."""
    network.eval()
    tables = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        masks = masks_of(network, [image.image() for image in part], size, device, precision, batch)
        tables.append(dice_table([image.mask() for image in part], masks, classes))
    return np.concatenate(tables)


def mean_dice(table: np.ndarray) -> float:
    """The mean of the classes' means; a class that no image shows does not count."""
    shown = table[:, ~np.isnan(table).all(axis=0)]
    return float(np.nanmean(shown, axis=0).mean()) if shown.size else 0.0
