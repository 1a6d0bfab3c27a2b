"""As many images of every finding as of every other, and as many without any: what is too much is left out.

A network that learns from a dataset in which a finding is rare learns how rare it is. An image with several findings
counts as one with the rarest of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import Field

from cxrsynth.data.labelled import ALL, Source
from cxrsynth.data.multilabel import MultiLabelImage, gather_multilabel, table_of
from cxrsynth.domain.lexicon import TRAITS, Negatives
from cxrsynth.errors import UsageError
from cxrsynth.factory.derived import Derived
from cxrsynth.lock import writing
from cxrsynth.recipe.part import Part

TRAIN, NONE = "train", "no finding"


class BalanceConfig(Part):
    """What is counted."""

    labels: tuple[str, ...] = Field(min_length=1, description="findings")
    negatives: Negatives = "normal"
    seed: int = Field(0, ge=0, description="of the choice among images of one finding")


def balance(dataset: Path, out: Path, config: BalanceConfig, advance: Callable[[int], None] | None = None) -> Derived:
    """Write the dataset with equal numbers in its train split; other splits and images that say nothing stay whole.

    Raises:
        UsageError: a label that is no finding, or that no image of the train split has.
        MismatchError: an unfinished dataset, or ``out`` holds another one.
    """
    derived = Derived.plan_of("balance", dataset, out, config.model_dump(mode="json"))
    groups = groups_of(dataset, config)
    fewest = min(map(len, groups.values()))
    reasons: dict[str, str] = {}
    for name, keys in groups.items():
        # Chosen by name: a larger dataset of the same recipe keeps the order of the images it had.
        order = sorted(keys, key=lambda key: hashlib.sha256(f"balance {config.seed} {key}".encode()).digest())
        reasons |= dict.fromkeys(order[fewest:], f"balance.{name.replace(' ', '_')}")
    with writing(out):
        derived.claim()
        derived.write(reasons, None, advance)
    return derived


def groups_of(dataset: Path, config: BalanceConfig) -> dict[str, list[str]]:
    """Finding, or `NONE` -> keys of the images of the train split that count as its.

    Raises:
        UsageError: as `balance`.
    """
    traits = [label for label in config.labels if label in TRAITS]
    if traits:
        raise UsageError(f"{', '.join(traits)}: no finding", "name findings only")
    images = [
        image
        for image in gather_multilabel(Source(dataset), ALL, config.labels, config.negatives)
        if image.row.get("split") == TRAIN
    ]
    counts = (table_of(images) == 1).sum(axis=0) if images else np.zeros(len(config.labels), int)
    missing = [label for label, count in zip(config.labels, counts, strict=True) if not count]
    if missing:
        raise UsageError(
            f"no image of the train split of {dataset} shows {', '.join(missing)}", "leave it out of --labels"
        )
    groups: dict[str, list[str]] = {name: [] for name in config.labels}
    for image in images:
        groups.setdefault(group_of(image, config.labels, counts), []).append(image.row["key"])
    return {name: keys for name, keys in groups.items() if keys}


def group_of(image: MultiLabelImage, labels: tuple[str, ...], counts: np.ndarray) -> str:
    """The rarest finding of an image, or `NONE`."""
    shown = np.flatnonzero(image.truth == 1)
    return labels[min(shown, key=lambda k: counts[k])] if len(shown) else NONE
