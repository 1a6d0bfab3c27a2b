"""Which labels are learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import gather_multilabel, table_of
from cxrsynth.domain.lexicon import FINDINGS, TRAITS
from cxrsynth.errors import UsageError
from cxrsynth.train.tasks.classify.config import ClassifyConfig


def choose_labels(sources: Sequence[Source], config: ClassifyConfig) -> tuple[str, ...]:
    """The labels asked for, or all of which the train splits have ``least`` images of each kind.

    Raises:
        UsageError: a label that no image, or every image, has; or none is left.
    """
    wanted = config.labels or (*TRAITS, *FINDINGS)
    images = [image for source in sources for image in gather_multilabel(source, "train", wanted, config.negatives)]
    table = table_of(images)
    ones, zeros = (table == 1).sum(axis=0), (table == 0).sum(axis=0)
    if config.labels:
        for label, one, zero in zip(wanted, ones, zeros, strict=True):
            if not one or not zero:
                raise UsageError(
                    f"'{label}': {one} images with it and {zero} without it in the train split, both are needed",
                    "leave it out of --labels, or add a dataset that has both",
                )
        return wanted
    enough = np.minimum(ones, zeros) >= config.least
    if not enough.any():
        raise UsageError(
            f"no label has {config.least} images with it and as many without it", "name --labels, or lower --least"
        )
    return tuple(label for label, kept in zip(wanted, enough, strict=True) if kept)
