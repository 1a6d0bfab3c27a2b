"""Images with what is said about them, of several datasets under one set of labels; checked before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrsynth.data.dataset import trainable
from cxrsynth.data.labelled import ALL, Source, check_finished
from cxrsynth.data.paths import inside
from cxrsynth.data.patients import DatasetImage, subset
from cxrsynth.domain.lexicon import FINDINGS, TRAITS, Negatives, knowledge, truth
from cxrsynth.errors import UsageError
from cxrsynth.records import Row
from cxrsynth.store import Store


@dataclass(frozen=True, slots=True)
class MultiLabelImage(DatasetImage):
    """An image with what is said about it.

    Attributes:
        truth: (K,) float32, 1 present, 0 absent, NaN unknown, in the order of the labels asked for.
    """

    truth: np.ndarray

    @property
    def path(self) -> Path:
        """The image's file."""
        return inside(self.store.root, self.row["image"])


def gather_multilabel(
    source: Source,
    split: str,
    labels: Sequence[str],
    negatives: Negatives,
    sources: Sequence[str] = (),
    keep: Callable[[Row], bool] = lambda row: True,
) -> list[MultiLabelImage]:
    """The images of a split of which at least one label is known.

    Args:
        split: ``train``, ``val``, ``test``, or ``all``.
        sources: only images of these sources; all by default.
        keep: a further condition on the row.

    Raises:
        UsageError: no dataset, or no such image.
        MismatchError: an unfinished shard.
    """
    store = Store(source.root)
    store.classes()
    check_finished(source.root)
    rows = list(store.rows())
    # Over all splits: what a hospital looked for does not depend on which of its images are held out.
    known = knowledge(rows, labels)
    chosen = [row for row in rows if split in (ALL, row.get("split")) and (split != "train" or trainable(row))]
    images = [
        MultiLabelImage(store, row, truth(row, labels, known, negatives))
        for row in chosen
        if (not sources or row.get("source") in sources) and keep(row) and row["key"] not in source.without
    ]
    images = [image for image in images if not np.isnan(image.truth).all()]
    if not images:
        raise UsageError(
            f"no image of split '{split}' in {source.root} says anything about {', '.join(labels)}",
            "ask for other --labels, or give images that split when they are ingested or generated",
        )
    return subset(images, source.images)


def table_of(images: Sequence[MultiLabelImage]) -> np.ndarray:
    """(N, K) float32 of 1, 0 and NaN."""
    return np.stack([image.truth for image in images])


def choose_labels(
    sources: Sequence[Source], labels: Sequence[str], negatives: Negatives, least: int
) -> tuple[str, ...]:
    """The labels asked for; without any, all of which the train splits have ``least`` images of each kind.

    Raises:
        UsageError: a label that no image, or every image, has; or none is left.
    """
    wanted = tuple(labels) or (*TRAITS, *FINDINGS)
    table = table_of([image for source in sources for image in gather_multilabel(source, "train", wanted, negatives)])
    ones, zeros = (table == 1).sum(axis=0), (table == 0).sum(axis=0)
    if labels:
        for label, one, zero in zip(wanted, ones, zeros, strict=True):
            if not one or not zero:
                raise UsageError(
                    f"'{label}': {one} images with it and {zero} without it in the train split, both are needed",
                    "leave it out of --labels, or add a dataset that has both",
                )
        return wanted
    enough = np.minimum(ones, zeros) >= least
    if not enough.any():
        raise UsageError(
            f"no label has {least} images with it and as many without it", "name --labels, or lower --least"
        )
    return tuple(label for label, kept in zip(wanted, enough, strict=True) if kept)
