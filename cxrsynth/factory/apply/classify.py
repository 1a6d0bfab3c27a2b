"""Apply a trained classifier to images: an image, a folder of images, or a dataset."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxrsynth.factory.apply.segment import SHARD, find, take
from cxrsynth.ingest.radiograph import Polarity, was_turned
from cxrsynth.nets.classifier import Classifier


@dataclass(slots=True)
class Classified:
    """What the classifier says.

    Attributes:
        images: ``{"key", "path", label: probability, ...}`` of every image.
        refused: ``{"path", "reason"}`` of every image that could not be read.
        turned: images that were not upright.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    turned: int = 0


def classify(
    classifier: Classifier,
    images: Path,
    split: str = "",
    advance: Callable[[int, int], None] | None = None,
    polarity: Polarity = "auto",
) -> Classified:
    """Probabilities of images.

    Args:
        split: of a dataset, only this split.
        advance: told (images done, all images).
        polarity: whether inverted, turned and mirrored images are looked for; never in a dataset.

    Raises:
        UsageError: there is no image.
    """
    pictures = find(images, split)
    result = Classified()
    for start in range(0, len(pictures), SHARD):
        readable, refused = take(pictures[start : start + SHARD], polarity)
        result.refused += refused
        result.turned += sum(was_turned(picture.row.get("notes") or ()) for picture, _ in readable if picture.raw)
        if readable:
            scores = classifier([image for _, image in readable])
            for (picture, _), row in zip(readable, scores, strict=True):
                named = {label: round(float(p), 4) for label, p in zip(classifier.labels, row, strict=True)}
                result.images.append({"key": picture.row["key"], "path": str(picture.path), **named})
        if advance:
            advance(min(start + SHARD, len(pictures)), len(pictures))
    return result


def as_csv(images: Sequence[dict[str, Any]], labels: Sequence[str]) -> str:
    """One line per image."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["key", "path", *labels], lineterminator="\n")
    writer.writeheader()
    writer.writerows(images)
    return text.getvalue()
