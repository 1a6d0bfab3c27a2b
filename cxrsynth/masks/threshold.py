"""How much a class has to say before it beats the background, chosen for each image on its own.

The weight of the background is a factor on its probability: above 1 masks shrink, below 1 they grow. It moves every
boundary without a second look at the maps, so that trying twenty of them costs no twenty random fields.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from cxrsynth.masks.layers import background, paint
from cxrsynth.masks.refiner import Named


def reweight(prob: np.ndarray, competing: np.ndarray, weight: float) -> np.ndarray:
    """(K, H, W) float32 probabilities whose background counts ``weight`` times; with it they sum to 1 again."""
    rest = background(prob, competing)[None]
    together = prob / np.maximum(prob[competing].sum(axis=0)[None] + weight * rest, 1e-12)
    alone = prob / np.maximum(prob + weight * (1.0 - prob), 1e-12)
    return np.where(competing[:, None, None], together, alone).astype(np.float32)


def labels(prob: np.ndarray, competing: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 0 background, k + 1 for the likeliest competing class k."""
    return paint(prob[competing], np.ones(int(competing.sum()), bool), range(1, int(competing.sum()) + 1))


def agreement(first: np.ndarray, second: np.ndarray, count: int) -> float:
    """Mean Dice of two (H, W) label maps over the classes 1..count that occur in either; 1 where none does."""
    sizes = np.bincount(first.ravel(), minlength=count + 1) + np.bincount(second.ravel(), minlength=count + 1)
    shared = np.bincount(first[first == second], minlength=count + 1)
    there = sizes[1:] > 0
    return float((2 * shared[1:][there] / sizes[1:][there]).mean()) if there.any() else 1.0


def weights(reach: float, count: int) -> np.ndarray:
    """``count`` background weights from 1 / reach to reach, even on a logarithmic scale, 1 among them if odd."""
    return np.geomspace(1 / reach, reach, count)


def agreeing(prob: np.ndarray, target: np.ndarray, competing: np.ndarray, tried: np.ndarray) -> float:
    """The weight whose labels agree best with (H, W) ``target``; of equals the one nearest to 1."""
    count = int(competing.sum())

    def agrees(weight: float) -> float:
        return agreement(labels(reweight(prob, competing, weight), competing), target, count)

    return max(sorted(tried.tolist(), key=lambda weight: abs(np.log(weight))), key=agrees)


class Adaptive(Named):
    """Moves the background's weight to where a small change of it moves the boundaries least.

    DiffuMask (ICCV 2023, section 3.2) takes a threshold from the histogram of each attention map; a threshold in
    a wide gap of that histogram is the one whose mask a little more or less of it would not change.

    Attributes:
        reach: largest factor on the background's probability, either way.
        tried: how many weights are tried.
        window: neighbours on either side over which a change is measured.
    """

    reach: float = Field(4.0, gt=1)
    tried: int = Field(17, ge=5, le=101)
    window: int = Field(2, ge=1, le=20)

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1."""
        competing = self.competing(len(prob))
        if not competing.any():
            return prob.copy()
        tried, count = weights(self.reach, self.tried), int(competing.sum())
        found = [labels(reweight(prob, competing, weight), competing) for weight in tried]
        inner = range(self.window, len(found) - self.window)
        # An empty mask changes least of all: what any weight finds has to be found.
        there = [set(np.unique(one).tolist()) for one in found]
        calm = {
            i: agreement(found[i - self.window], found[i + self.window], count)
            for i in inner
            if there[i + self.window] == there[0]
        }
        middle = len(found) // 2
        best = max(sorted(calm, key=lambda i: abs(i - middle)), key=calm.__getitem__, default=middle)
        refined = prob.copy()
        refined[competing] = reweight(prob, competing, float(tried[best]))[competing]
        return refined
