"""The end of a segmentation training: Dice on all validation images, the worst of them as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxrsynth.data.labelled import LabelledImage, Source
from cxrsynth.evaluate.segmentation import mean_dice, validate
from cxrsynth.nets.segmenter import Network, predict
from cxrsynth.pages.sheet import encode
from cxrsynth.pages.worst import SHOWN, order_by_worst, worst_sheet
from cxrsynth.train.curves import Curves
from cxrsynth.train.labelled import Images, datasets, machine, write_network
from cxrsynth.train.tasks.segment.config import SegmentConfig

FIGURES = ("loss", "dice")


def write_result(
    run: Path,
    network: Network,
    images: Images[LabelledImage],
    sources: Sequence[Source],
    config: SegmentConfig,
    origin: Mapping[str, str],
    figures: Mapping[str, Any],
    curves: Curves,
    device: torch.device,
) -> Path:
    """Validate the final weights on all validation images and write the result folder.

    Args:
        origin: sha256 of the weights that the training started from.
        figures: what else goes into ``metrics.json``.
    """
    val, names = images.val, images.names
    table = validate(network, val, len(names), config.size, device, config.precision, config.batch)
    dice = {name: _mean(column) for name, column in zip(names, table.T, strict=True)}
    found = {"images": len(val), "dice": dice, "mean": round(mean_dice(table), 5)}
    metrics = {**figures, **machine(device), "validation": found}
    told = {"classes": list(names), "data": datasets(images, sources)}
    body = {**config.model_dump(mode="json"), **origin, **told}
    worst = order_by_worst(table)[:SHOWN]
    shown = [val[i] for i in worst]
    pixels = [image.image() for image in shown]
    masks = predict(network, pixels, config.size, device, config.precision, config.batch)
    keys = [image.row["key"] for image in shown]
    title = f"{run.name}: the worst of {len(val)} validation images"
    picture = worst_sheet(pixels, [image.mask() for image in shown], masks, keys, table[worst], names, title)
    pictures = {"worst.png": encode(picture)}
    return write_network(run, network, body, metrics, network.outside(), images, curves, FIGURES, pictures)


def _mean(column: np.ndarray) -> float | None:
    return None if np.isnan(column).all() else round(float(np.nanmean(column)), 5)
