"""What a training learns: its batches, its networks and what they minimise; `cxrsynth.train.loop` does the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

Figures = dict[str, float]
# (network as it is to be called, batch, update) -> what is minimised, and figures for the log
Loss = Callable[[nn.Module, Any, int], tuple[Tensor, Figures]]


def whole(batch: Any) -> Sequence[Any]:
    """A batch in one part."""
    return (batch,)


@dataclass(frozen=True, slots=True)
class Turn:
    """One network, its optimizer, and what it minimises; a training has one or, with an adversary, two.

    Attributes:
        name: of its loss in the log.
        network: whose trainable parameters are moved.
        loss: see `Loss`; other networks are reached through the task.
        lr: share of the configured learning rate.
        since: first update in which it takes part.
        split: a batch -> parts that fit into memory; losses and figures of the parts are summed.
        rests: update -> beginnings of names of weights that do not change from there on and rest at their averages, of
            the first turn.
    """

    name: str
    network: nn.Module
    loss: Loss
    lr: float = 1.0
    since: int = 0
    split: Callable[[Any], Sequence[Any]] = whole
    rests: Mapping[int, Sequence[str]] = field(default_factory=dict)


class Task(Protocol):
    """What is learned.

    Attributes:
        stem: of the files in the run folder: ``STEM.ckpt``, ``STEM_log.jsonl``, ``STEM_curves.png``.
        identity: digest of everything that a running training cannot change.
        turns: the first one's network is averaged and is the result.
        score: name of the figure of `look` whose best average is kept (higher is better); empty keeps the last.
        shown: names of the figures in the plot.
    """

    @property
    def stem(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def turns(self) -> Sequence[Turn]: ...
    @property
    def score(self) -> str: ...
    @property
    def shown(self) -> Sequence[str]: ...

    def batch(self, update: int, rng: np.random.Generator) -> Any:
        """Everything that update sees, on the CPU; a function of its arguments only."""
        ...

    def look(self, network: nn.Module, update: int) -> Figures:
        """Validate the first turn's network, which holds the averages now; write sheets. On the main process only."""
        ...
