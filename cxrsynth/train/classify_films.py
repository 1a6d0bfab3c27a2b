"""Films with what is said about them, of several datasets under one set of labels; checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cxrsynth.dataset import trainable
from cxrsynth.errors import UsageError
from cxrsynth.store import Store
from cxrsynth.train.augment import augmenter
from cxrsynth.train.classify_config import ClassifyConfig
from cxrsynth.train.feed import Draws
from cxrsynth.train.film import Film, subset
from cxrsynth.train.findings import FINDINGS, TRAITS, Negatives, knowledge, truth
from cxrsynth.train.labelled import ALL, Source, check_finished
from cxrsynth.train.network import squash


@dataclass(frozen=True, slots=True)
class SaidFilm(Film):
    """A film with what is said about it.

    Attributes:
        truth: (K,) float32, 1 present, 0 absent, NaN unknown, in the order of the labels asked for.
    """

    truth: np.ndarray

    @property
    def path(self) -> Path:
        """The picture's file."""
        return self.store.root / self.row["image"]


def gather_said(
    source: Source, split: str, labels: Sequence[str], negatives: Negatives, sources: Sequence[str] = ()
) -> list[SaidFilm]:
    """The films of a split of which at least one label is known.

    Args:
        split: ``train``, ``val``, ``test``, or ``all``.
        sources: only films of these sources; all by default.

    Raises:
        UsageError: no dataset, or no such film.
        MismatchError: an unfinished shard.
    """
    store = Store(source.root)
    store.classes()
    check_finished(source.root)
    rows = list(store.rows())
    # Over all splits: what a hospital looked for does not depend on which of its films are held out.
    known = knowledge(rows, labels)
    chosen = [row for row in rows if split in (ALL, row.get("split")) and (split != "train" or trainable(row))]
    films = [
        SaidFilm(store, row, truth(row, labels, known, negatives))
        for row in chosen
        if not sources or row.get("source") in sources
    ]
    films = [film for film in films if not np.isnan(film.truth).all()]
    if not films:
        raise UsageError(
            f"no film of split '{split}' in {source.root} says anything about {', '.join(labels)}",
            "ask for other --labels, or give films that split when they are ingested or generated",
        )
    return subset(films, source.films)


def choose_labels(sources: Sequence[Source], config: ClassifyConfig) -> tuple[str, ...]:
    """The labels asked for, or all of which the train splits have ``least`` films of each kind.

    Raises:
        UsageError: a label that no film, or every film, has; or none is left.
    """
    wanted = config.labels or (*TRAITS, *FINDINGS)
    films = [film for source in sources for film in gather_said(source, "train", wanted, config.negatives)]
    table = table_of(films)
    ones, zeros = (table == 1).sum(axis=0), (table == 0).sum(axis=0)
    if config.labels:
        for label, one, zero in zip(wanted, ones, zeros, strict=True):
            if not one or not zero:
                raise UsageError(
                    f"'{label}': {one} films with it and {zero} without it in the train split, both are needed",
                    "leave it out of --labels, or add a dataset that has both",
                )
        return wanted
    enough = np.minimum(ones, zeros) >= config.least
    if not enough.any():
        raise UsageError(
            f"no label has {config.least} films with it and as many without it", "name --labels, or lower --least"
        )
    return tuple(label for label, kept in zip(wanted, enough, strict=True) if kept)


def table_of(films: Sequence[SaidFilm]) -> np.ndarray:
    """(N, K) float32 of 1, 0 and NaN."""
    return np.stack([film.truth for film in films])


class SaidFeed(Draws[SaidFilm]):
    """Films with what is said about them, augmented."""

    def __init__(
        self, films: Sequence[Sequence[SaidFilm]], weights: Sequence[float], config: ClassifyConfig, process: int = 0
    ) -> None:
        super().__init__(films, weights, config, process)
        self.size = config.size
        self.augment = augmenter(config.augment)

    def __getitem__(self, update: int) -> tuple[Tensor, Tensor, list[str]]:
        """(B, 1, S, S) float32 in 0..1, (B, K) float32 of 1, 0 and NaN, and the films' paths."""
        rng = self.rng(update)
        chosen = self.draw(rng)
        empty = np.zeros((self.size, self.size), np.uint8)
        images = [self.augment(squash(film.image(), self.size), empty, rng)[0] for film in chosen]
        x = torch.from_numpy(np.stack(images)[:, None].astype(np.float32) / 255)
        return x, torch.from_numpy(table_of(chosen)), [str(film.path) for film in chosen]
