"""Synthetic images have no reference masks: how far do their labels agree with a network that learned from real images?

The network sees the image alone, the labels come from the generator's attention: where both say the same, the
image shows what the label claims. And what curation measures of a sample is worth keeping if it tells agreement from
disagreement: a rank correlation per score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from cxrsynth.errors import UsageError
from cxrsynth.evaluate.masks import renumber
from cxrsynth.evaluate.metrics import Scores, column, score, summarise
from cxrsynth.evaluate.results import Record, bootstrap, record
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.nets.segmenter import Segmenter
from cxrsynth.records import Draw
from cxrsynth.store import Store

# The labels that the dataset holds, beside those of the chains that are tried.
OWN = "own"
SCORES = ("presence", "stability", "uncertainty", "area")
BATCH = 8
FEWEST = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """Figures of all images.

    Attributes:
        images: chain -> figures of each image against the network's mask.
        scores: per image what curation wrote, ``{"stability.heart": 0.9, ...}``.
    """

    images: dict[str, list[Scores]]
    scores: list[dict[str, float]]


def agreement(
    generated: Path,
    segmenter: Segmenter,
    chains: Mapping[str, Labelling],
    on_image: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Agreement:
    """Compare the labels of synthetic images, and those of other chains on their maps, with a network's.

    Args:
        generated: what ``generate`` wrote without checks (``curate.checks=[]``), so that bad images are in it.
        chains: as `cxrsynth.evaluate.chains.load_chains` gives them; none compares the dataset's own labels only.
        on_image: called with (images done, images planned, figures) after every image.

    Raises:
        UsageError: no class in common, no image, or a chain needs maps that were not kept.
    """
    store = Store(generated)
    classes = store.classes()
    shared = {name: classes[name] for name in segmenter.classes if name in classes}
    if not shared:
        raise UsageError(
            f"{generated} has none of the classes {', '.join(segmenter.classes)}",
            "name a network with the same classes",
        )
    rows = [row for row in store.rows() if row.get("mask")]
    if not rows:
        raise UsageError(f"{generated} has no labelled image", "finish it with the command that wrote it")
    numbers = {name: number for number, name in enumerate(segmenter.classes, start=1)}
    found: dict[str, list[Scores]] = {name: [] for name in (OWN, *chains)}
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        images = [store.load_image(row) for row in part]
        for row, image, seen in zip(part, images, segmenter(images), strict=True):
            truth = renumber(seen, numbers, shared)
            own = store.load_mask(row)
            assert own is not None  # chosen above
            found[OWN].append(score(truth, renumber(own, classes, shared), shared))
            stored = store.load_maps(row) if chains else None
            for name, chain in chains.items():
                if stored is None or "maps" not in stored:
                    raise UsageError(f"{generated} keeps no maps", "generate it with masks.keep_maps: true")
                mask = make_sample(Draw.stored(image, stored), chain).mask
                found[name].append(score(truth, renumber(mask, chain.classes, shared), shared))
            if on_image is not None:
                on_image(len(found[OWN]), len(rows), {})
    return Agreement(found, [row["scores"] for row in rows])


def records(found: Agreement, name: str) -> list[Record]:
    """Dice, IoU, HD95 and NSD against the network per chain, and what each score tells about the dataset's own labels.

    The latter are in the dataset ``<name>:rank``: arm is the score, ``spearman`` its rank correlation over images with
    the Dice of the same class. Good scores are near 1, ``uncertainty`` near -1.

    Args:
        name: of the dataset in tables.
    """
    images = next(iter(found.images.values()))
    each = [str(i) for i in range(len(images))]  # a synthetic image is nobody else's
    made = []
    for chain, figures in found.images.items():
        for line in summarise(figures, each):
            value = (line["value"], line["lo"], line["hi"])
            made.append(record("masks", chain, name, line["metric"], value, line["n"], line["class"]))
    for what in SCORES:
        for klass in images[0]:
            dice = column(images, klass, "dice")
            told = np.array([scores.get(f"{what}.{klass}", np.nan) for scores in found.scores])
            known = ~np.isnan(dice) & ~np.isnan(told)
            if known.sum() >= FEWEST:
                values = np.stack([told[known], dice[known]], axis=1)
                figures_ = bootstrap(values, statistic=spearman)
                made.append(record("masks", what, f"{name}:rank", "spearman", figures_, int(known.sum()), klass))
    return made


def spearman(values: np.ndarray) -> float:
    """(N, 2) -> rank correlation of the two columns, -1 to 1; NaN where one of them is constant."""
    ranks = rankdata(values, axis=0)
    centred = ranks - ranks.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0)).prod()
    return float(centred.prod(axis=1).sum() / spread) if spread > 0 else float("nan")


def table(made: Sequence[Record]) -> list[dict[str, object]]:
    """The records that people look at first: Dice and correlations, without machine and command."""
    shown = ("arm", "dataset", "class", "metric", "value", "lo", "hi", "n")
    return [{key: one[key] for key in shown} for one in made if one["metric"] in ("dice", "spearman")]
