"""The end of a classifier's training: AUROC per label with intervals, thresholds, the result folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import MultiLabelImage, table_of
from cxrsynth.data.patients import PATIENTS
from cxrsynth.evaluate.classification import CHUNK, figures_of
from cxrsynth.nets.classifier import ClassifierNetwork, probabilities
from cxrsynth.nets.segmenter import save
from cxrsynth.statistics import auroc
from cxrsynth.store import dumps, publish
from cxrsynth.train.curves import Curves
from cxrsynth.train.device import peak_memory
from cxrsynth.train.tasks.classify.config import ClassifyConfig

FIGURES = ("loss", "auroc")


@dataclass(slots=True)
class Learned:
    """What is learned from and what is held out.

    Attributes:
        labels: names, in the order of the outputs.
        train: one list per dataset.
        val: all of them together.
        shown: the validation images that decide during training.
        test: images of the same datasets that decide nothing.
    """

    labels: tuple[str, ...]
    train: list[list[MultiLabelImage]]
    val: list[MultiLabelImage]
    shown: list[MultiLabelImage]
    test: list[MultiLabelImage]


def scores_of(
    network: nn.Module, images: Sequence[MultiLabelImage], config: ClassifyConfig, device: torch.device
) -> np.ndarray:
    """(N, K) probabilities; the network is left in eval mode."""
    network.eval()
    parts = []
    for start in range(0, len(images), CHUNK):  # so that images of a large set are not all in memory
        pixels = [image.image() for image in images[start : start + CHUNK]]
        parts.append(probabilities(network, pixels, config.size, device, config.precision))
    return np.concatenate(parts)


def mean_auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean over the labels of which the images show both kinds; 0.5 without any.

    Args:
        truth: (N, K) of 1, 0 and NaN.
        scores: (N, K).
    """
    found = [auroc(np.stack([s, t], axis=1)[~np.isnan(t)]) for s, t in zip(scores.T, truth.T, strict=True)]
    known = [value for value in found if value == value]
    return float(np.mean(known)) if known else 0.5


def threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The probability from which an image counts as positive: where sensitivity and specificity are highest together
    (Youden 1950); 0.5 where one kind is missing."""
    known = ~np.isnan(truth)
    score, label = scores[known], truth[known] == 1
    if label.all() or not label.any():
        return 0.5
    order = np.argsort(-score, kind="stable")
    gain = np.cumsum(label[order]) / label.sum() - np.cumsum(~label[order]) / (~label).sum()
    best = int(gain.argmax())
    below = score[order][min(best + 1, len(order) - 1)]
    return float((score[order][best] + below) / 2)


def write_result(
    run: Path,
    network: ClassifierNetwork,
    images: Learned,
    sources: Sequence[Source],
    config: ClassifyConfig,
    origin: Mapping[str, str],
    figures: Mapping[str, Any],
    curves: Curves,
    device: torch.device,
) -> Path:
    """Measure the final weights on all held-out images and put ``run/model`` in place as a whole.

    Args:
        origin: sha256 of the weights that the training started from.
        figures: what else goes into ``metrics.json``.
    """
    metrics: dict[str, Any] = {
        **figures,
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "peak_memory_mib": peak_memory(device),
    }
    thresholds: dict[str, float] = {}
    for split, part in (("val", images.val), ("test", images.test)):
        if not part:
            continue
        truth, scores = table_of(part), scores_of(network, part, config, device)
        if split == "val":
            thresholds = {name: round(threshold(scores[:, k], truth[:, k]), 5) for k, name in enumerate(images.labels)}
        patients = [image.patient for image in part]
        labels = figures_of(
            images.labels, truth, scores, patients, [str(image.row.get("source", "")) for image in part]
        )
        metrics[split] = {"images": len(part), "mean_auroc": round(mean_auroc(truth, scores), 4), "labels": labels}
    body = {
        **config.model_dump(mode="json"),
        **origin,
        "labels": list(images.labels),
        "thresholds": thresholds,
        "data": [
            {
                "name": source.root.resolve().name,
                "weight": source.weight,
                "images": len(part),
                "patients": len({image.patient for image in part}),
                "with": {name: int((table_of(part)[:, k] == 1).sum()) for k, name in enumerate(images.labels)},
                "without": {name: int((table_of(part)[:, k] == 0).sum()) for k, name in enumerate(images.labels)},
            }
            for source, part in zip(sources, images.train, strict=True)
        ],
    }
    # So that a test on one of these patients can be refused later, on any machine.
    seen = {
        "train": sorted({image.patient for part in images.train for image in part if image.row.get("patient")}),
        "val": sorted({image.patient for image in images.val if image.row.get("patient")}),
    }

    def write(folder: Path) -> None:
        save(folder, network, body, metrics, network.outside(images.labels, config.size))
        (folder / PATIENTS).write_bytes(dumps(seen))
        curves.plot(folder / "curves.png", FIGURES)

    publish(run / "model", write)
    return run / "model"
