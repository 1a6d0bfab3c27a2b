"""The end of a segmentation training: Dice on validation images, the worst of them as a picture, the result folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cxrsynth.data.labelled import LabelledImage, Source
from cxrsynth.data.patients import PATIENTS
from cxrsynth.domain.overlap import dice
from cxrsynth.nets.segmenter import Network, predict, save
from cxrsynth.pages.sheet import encode
from cxrsynth.pages.worst import SHOWN, order_by_worst, worst_sheet
from cxrsynth.records import IGNORE
from cxrsynth.store import dumps, publish
from cxrsynth.train.curves import Curves
from cxrsynth.train.device import peak_memory
from cxrsynth.train.tasks.segment.config import SegmentConfig

FIGURES = ("loss", "dice")


@dataclass(slots=True)
class Splits:
    """What is learned from and what is validated on.

    Attributes:
        classes: names, in the order of the output channels.
        train: one list per dataset.
        val: all of them together.
        shown: the validation images that decide during training.
    """

    classes: tuple[str, ...]
    train: list[list[LabelledImage]]
    val: list[LabelledImage]
    shown: list[LabelledImage]


def dice_table(truths: Sequence[np.ndarray], masks: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """(N, K) float64 Dice per image and class; NaN where a class is in neither mask, 255 of the truth left out."""
    table = np.empty((len(truths), classes))
    for i, (truth, mask) in enumerate(zip(truths, masks, strict=True)):
        seen = truth != IGNORE
        for k in range(classes):
            table[i, k] = dice((truth == k + 1) & seen, (mask == k + 1) & seen)
    return table


def validate(
    network: nn.Module, images: Sequence[LabelledImage], classes: int, config: SegmentConfig, device: torch.device
) -> np.ndarray:
    """(N, K) Dice of images at their own size; the network is left in eval mode."""
    network.eval()
    tables = []
    for start in range(0, len(images), config.batch):
        part = images[start : start + config.batch]
        masks = predict(network, [image.image() for image in part], config.size, device, config.precision, config.batch)
        tables.append(dice_table([image.mask() for image in part], masks, classes))
    return np.concatenate(tables)


def mean_dice(table: np.ndarray) -> float:
    """The mean of the classes' means; a class that no image shows does not count."""
    shown = table[:, ~np.isnan(table).all(axis=0)]
    return float(np.nanmean(shown, axis=0).mean()) if shown.size else 0.0


def write_result(
    run: Path,
    network: Network,
    images: Splits,
    sources: Sequence[Source],
    config: SegmentConfig,
    origin: Mapping[str, str],
    figures: Mapping[str, Any],
    curves: Curves,
    device: torch.device,
) -> Path:
    """Validate the final weights on all validation images and put ``run/model`` in place as a whole.

    Args:
        origin: sha256 of the weights that the training started from.
        figures: what else goes into ``metrics.json``.
    """
    table = validate(network, images.val, len(images.classes), config, device)
    metrics = {
        **figures,
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "peak_memory_mib": peak_memory(device),
        "validation": {
            "images": len(images.val),
            "dice": {name: _mean(column) for name, column in zip(images.classes, table.T, strict=True)},
            "mean": round(mean_dice(table), 5),
        },
    }
    body = {
        **config.model_dump(mode="json"),
        **origin,
        "classes": list(images.classes),
        "data": [
            {
                "name": source.root.resolve().name,
                "weight": source.weight,
                "images": len(part),
                "patients": len({image.patient for image in part}),
            }
            for source, part in zip(sources, images.train, strict=True)
        ],
    }
    # So that a test on one of these patients can be refused later, on any machine.
    learned = {
        "train": sorted({image.patient for part in images.train for image in part if image.row.get("patient")}),
        "val": sorted({image.patient for image in images.val if image.row.get("patient")}),
    }
    worst = order_by_worst(table)[:SHOWN]
    shown = [images.val[i] for i in worst]
    pixels = [image.image() for image in shown]
    masks = predict(network, pixels, config.size, device, config.precision, config.batch)
    keys = [image.row["key"] for image in shown]
    title = f"{run.name}: the worst of {len(images.val)} validation images"
    picture = worst_sheet(pixels, [image.mask() for image in shown], masks, keys, table[worst], images.classes, title)

    def write(folder: Path) -> None:
        save(folder, network, body, metrics, network.outside())
        (folder / PATIENTS).write_bytes(dumps(learned))
        (folder / "worst.png").write_bytes(encode(picture))
        curves.plot(folder / "curves.png", FIGURES)

    publish(run / "model", write)
    return run / "model"


def _mean(column: np.ndarray) -> float | None:
    return None if np.isnan(column).all() else round(float(np.nanmean(column)), 5)
