"""The end of a classifier's training: AUROC per label with intervals, and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import MultiLabelImage, table_of
from cxrsynth.evaluate.classification import figures_of, mean_auroc, scores_of, threshold
from cxrsynth.nets.classifier import ClassifierNetwork
from cxrsynth.train.curves import Curves
from cxrsynth.train.labelled import Images, datasets, machine, write_network
from cxrsynth.train.tasks.classify.config import ClassifyConfig

FIGURES = ("loss", "auroc")


def write_result(
    run: Path,
    network: ClassifierNetwork,
    images: Images[MultiLabelImage],
    test: list[MultiLabelImage],
    sources: Sequence[Source],
    config: ClassifyConfig,
    origin: Mapping[str, str],
    figures: Mapping[str, Any],
    curves: Curves,
    device: torch.device,
) -> Path:
    """Measure the final weights on all held-out images and write the result folder.

    Args:
        test: images of the same datasets that decide nothing.
        origin: sha256 of the weights that the training started from.
        figures: what else goes into ``metrics.json``.
    """
    names = images.names
    metrics: dict[str, Any] = {**figures, **machine(device)}
    thresholds: dict[str, float] = {}
    for split, part in (("val", images.val), ("test", test)):
        if not part:
            continue
        truth, scores = table_of(part), scores_of(network, part, config.size, device, config.precision)
        if split == "val":
            thresholds = {name: round(threshold(scores[:, k], truth[:, k]), 5) for k, name in enumerate(names)}
        patients = [image.patient for image in part]
        labels = figures_of(names, truth, scores, patients, [str(image.row.get("source", "")) for image in part])
        metrics[split] = {"images": len(part), "mean_auroc": round(mean_auroc(truth, scores), 4), "labels": labels}

    def known(part: list[MultiLabelImage]) -> dict[str, Any]:
        table = table_of(part)
        kinds = {"with": 1, "without": 0}
        return {kind: {n: int((table[:, k] == v).sum()) for k, n in enumerate(names)} for kind, v in kinds.items()}

    told = {"labels": list(names), "thresholds": thresholds, "data": datasets(images, sources, known)}
    body = {**config.model_dump(mode="json"), **origin, **told}
    outside = network.outside(names, config.size)
    return write_network(run, network, body, metrics, outside, images, curves, FIGURES, {})
