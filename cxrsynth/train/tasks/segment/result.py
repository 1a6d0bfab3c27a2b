"""The end of a segmentation training: Dice on validation films, the worst of them as a picture, the result folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cxrsynth.data.labelled import IGNORE, LabelledFilm, Source
from cxrsynth.nets.segmenter import predict, save
from cxrsynth.pages.sheet import encode
from cxrsynth.pages.worst import SHOWN, order_by_worst, worst_sheet
from cxrsynth.store import dumps, publish
from cxrsynth.train.curves import Curves
from cxrsynth.train.device import peak_memory
from cxrsynth.train.tasks.segment.config import SegmentConfig

FIGURES = ("loss", "dice")


@dataclass(slots=True)
class Films:
    """What is learned from and what is validated on.

    Attributes:
        classes: names, in the order of the output channels.
        train: one list per dataset.
        val: all of them together.
        shown: the validation films that decide during training.
    """

    classes: tuple[str, ...]
    train: list[list[LabelledFilm]]
    val: list[LabelledFilm]
    shown: list[LabelledFilm]


def dice_table(truths: Sequence[np.ndarray], masks: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """(N, K) float64 Dice per film and class; NaN where a class is in neither mask, 255 of the truth left out."""
    table = np.full((len(truths), classes), np.nan)
    for i, (truth, mask) in enumerate(zip(truths, masks, strict=True)):
        seen = truth != IGNORE
        for k in range(classes):
            theirs, ours = (truth == k + 1) & seen, (mask == k + 1) & seen
            total = int(theirs.sum()) + int(ours.sum())
            if total:
                table[i, k] = 2 * int((theirs & ours).sum()) / total
    return table


def validate(
    network: nn.Module, films: Sequence[LabelledFilm], classes: int, config: SegmentConfig, device: torch.device
) -> np.ndarray:
    """(N, K) Dice of films at their own size; the network is left in eval mode."""
    network.eval()
    tables = []
    for start in range(0, len(films), config.batch):
        part = films[start : start + config.batch]
        masks = predict(network, [film.image() for film in part], config.size, device, config.precision, config.batch)
        tables.append(dice_table([film.mask() for film in part], masks, classes))
    return np.concatenate(tables)


def mean_dice(table: np.ndarray) -> float:
    """The mean of the classes' means; a class that no film shows does not count."""
    shown = table[:, ~np.isnan(table).all(axis=0)]
    return float(np.nanmean(shown, axis=0).mean()) if shown.size else 0.0


def write_result(
    run: Path,
    network: nn.Module,
    films: Films,
    sources: Sequence[Source],
    config: SegmentConfig,
    origin: Mapping[str, str],
    figures: Mapping[str, Any],
    curves: Curves,
    device: torch.device,
) -> Path:
    """Validate the final weights on all validation films and put ``run/model`` in place as a whole.

    Args:
        origin: sha256 of the weights that the training started from.
        figures: what else goes into ``metrics.json``.
    """
    table = validate(network, films.val, len(films.classes), config, device)
    metrics = {
        **figures,
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "peak_memory_mib": peak_memory(device),
        "validation": {
            "films": len(films.val),
            "dice": {name: _mean(column) for name, column in zip(films.classes, table.T, strict=True)},
            "mean": round(mean_dice(table), 5),
        },
    }
    body = {
        **config.model_dump(mode="json"),
        **origin,
        "classes": list(films.classes),
        "data": [
            {
                "name": source.root.resolve().name,
                "weight": source.weight,
                "films": len(part),
                "patients": len({film.patient for film in part}),
            }
            for source, part in zip(sources, films.train, strict=True)
        ],
    }
    # So that a test on one of these patients can be refused later, on any machine.
    learned = {
        "train": sorted({film.patient for part in films.train for film in part if film.row.get("patient")}),
        "val": sorted({film.patient for film in films.val if film.row.get("patient")}),
    }
    worst = order_by_worst(table)[:SHOWN]
    shown = [films.val[i] for i in worst]
    images = [film.image() for film in shown]
    masks = predict(network, images, config.size, device, config.precision, config.batch)
    keys = [film.row["key"] for film in shown]
    title = f"{run.name}: the worst of {len(films.val)} validation films"
    picture = worst_sheet(images, [film.mask() for film in shown], masks, keys, table[worst], films.classes, title)

    def write(folder: Path) -> None:
        save(folder, network, body, metrics)
        (folder / "films.json").write_bytes(dumps(learned))
        (folder / "worst.png").write_bytes(encode(picture))
        curves.plot(folder / "curves.png", FIGURES)

    publish(run / "model", write)
    return run / "model"


def _mean(column: np.ndarray) -> float | None:
    return None if np.isnan(column).all() else round(float(np.nanmean(column)), 5)
