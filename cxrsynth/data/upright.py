"""Whether a radiograph is the right way up and round, and not inverted: a tiny network compares all ways to turn it.

A score says how much an image looks like a frontal chest as it should be: air dark, bones bright, the abdomen below,
the apex of the heart on the image's right. The image is scored in all 16 states (inverted or not, on its side or not,
upside down or not, mirrored or not), and a softmax over them tells how it lies. So no state is preferred: an inverted
image is found as surely as an upright one is left alone. The score sees the ranks of 20 x 20 tones, which no gamma,
window or depth changes; borders are cut off first.

The weights (``upright.npz``, 18 kB) are made by ``make upright`` from real images of the split ``train``. How sure it
is stands in ``docs/results/orientation.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

from cxrsynth.data.borders import unframed

SIDE = 20
# How sure one has to be to touch an image, chosen on the split ``val``. A mirrored heart is hardest to see.
SURE = 0.9
SURE_MIRRORED = 0.97


@dataclass(frozen=True, slots=True)
class Turn:
    """How a stored image becomes upright, with the patient's right on the left.

    Attributes:
        transpose: rows and columns change places first.
        mirror: left and right change places.
        upend: top and bottom change places.
        invert: black and white change places.
    """

    transpose: bool = False
    mirror: bool = False
    upend: bool = False
    invert: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.mirror or self.upend or self.invert

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """(..., H, W) -> (..., H, W) or (..., W, H)."""
        array = array.swapaxes(-1, -2) if self.transpose else array
        array = array[..., ::-1] if self.mirror else array
        array = array[..., ::-1, :] if self.upend else array
        return array.max() + array.min() - array if self.invert else array

    def mask(self, values: np.ndarray) -> np.ndarray:
        """The same for class ids or bools, whose values stay."""
        return replace(self, invert=False)(values)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Class ids or bools of the turned image -> of the image before it was turned."""
        values = values[..., ::-1, :] if self.upend else values
        values = values[..., ::-1] if self.mirror else values
        return values.swapaxes(-1, -2) if self.transpose else values


UPRIGHT = Turn()
BITS = (False, True)
# In the order of the scores; the first one leaves the image as it is.
STATES = tuple(
    Turn(transpose, mirror, upend, invert) for invert in BITS for transpose in BITS for upend in BITS for mirror in BITS
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an image lies.

    Attributes:
        turn: what makes it upright; nothing where it is upright, or where that cannot be told.
        reason: what was found, in words; empty for an upright image.
        refused: whether an image in this state cannot be put right: a heart on the other side may be a mirrored image
            or a rare patient, and of one that stands on its head the sides may not be clear.
    """

    turn: Turn = UPRIGHT
    reason: str = ""
    refused: bool = False


def judge(image: np.ndarray) -> Verdict:
    """How (H, W) pixels of any range lie. What is no chest, or looks alike in several states, is left alone."""
    table = probabilities(image).reshape(2, 2, 2, 2)  # invert, transpose, upend, mirror
    inverted = bool(table[1].sum() > SURE)
    found = ["inverted"] if inverted else []
    ways = table.sum(axis=0)  # transpose, upend, mirror
    head_up = float(ways[0, 0].sum())
    if head_up < 1 - SURE:
        lying, upended, mirrored = (bool(index) for index in np.unravel_index(ways.argmax(), ways.shape))
        found.append("on its side" if lying else "upside down")
        if ways.max() < SURE:
            return Verdict(UPRIGHT, f"{' and '.join(found)}; which side is which cannot be told", refused=True)
        return Verdict(Turn(lying, mirrored, upended, inverted), " and ".join(found))
    if ways[0, 0, 1] > SURE_MIRRORED * head_up and head_up > SURE:
        found.append("mirrored (the heart lies on the other side)")
        return Verdict(UPRIGHT, " and ".join(found), refused=True)
    return Verdict(Turn(invert=inverted), " and ".join(found))


def probabilities(image: np.ndarray) -> np.ndarray:
    """(16,) float64, how likely each of `STATES` makes the image upright; they sum to 1."""
    first, bias, second = weights()
    views = np.stack([turned.ravel() for turned in orbit(ranks(shrink(unframed(image))))])  # (16, SIDE * SIDE)
    scores = np.tanh(views @ first + bias) @ second
    shares = np.exp(scores - scores.max())
    return shares / shares.sum()


def shrink(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (SIDE, SIDE) float32, the mean tone of every part."""
    small = Image.fromarray(image.astype(np.float32), mode="F").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small)


def ranks(small: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE) -> float64 in -1..1: how many pixels are darker minus how many are brighter; ties share a rank."""
    values = small.ravel()
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return (below / values.size - 1).reshape(small.shape)


def orbit(ranked: np.ndarray) -> list[np.ndarray]:
    """Ranks of an image in all `STATES`; turned black for white, ranks change their sign."""
    return [Turn(turn.transpose, turn.mirror, turn.upend)(ranked) * (-1 if turn.invert else 1) for turn in STATES]


@cache
def weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(SIDE * SIDE, H), (H,), (H,) float64."""
    with files("cxrsynth.data").joinpath("upright.npz").open("rb") as file, np.load(file) as archive:
        return tuple(archive[name].astype(np.float64) for name in ("first", "bias", "second"))  # type: ignore[return-value]
