"""From raw class attention to class probabilities, jointly for all classes and the background.

Follows DiffuMask (Wu et al., ICCV 2023, section 3.2): up-sample, divide by the maximum, weigh against a constant
background. Two things differ. The maximum is a robust one and is taken only for classes that are there: dividing every
class by its own maximum invents a mask for an absent one. And classes share one scale until then, because their maps
come from one softmax over the same keys, so that how strong a class is next to the others tells whether it is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the maps of one image say.

    Attributes:
        prob: (K, H, W) float32 in 0..1; competing classes and the background sum to 1.
        presence: (K,) float, 0 absent to 1 certainly there.
        stability: (K,) float, IoU of a class's mask at a slightly higher and a slightly lower background, 0 if absent.
    """

    prob: np.ndarray
    presence: np.ndarray
    stability: np.ndarray


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Values of maps that mean something by themselves, because a model was trained to give them; NaN where none do.

    Attributes:
        gate: (K,) float, peaks below it mean that the class is absent.
        level: (K,) float, values above it mean that the class is there.
    """

    gate: np.ndarray
    level: np.ndarray


class Joint(BaseModel):
    """How raw maps become probabilities: all classes and the background on one scale.

    Attributes:
        background: constant that a class has to beat, as a fraction of the class's own peak; DiffuMask has 0.45 for
            photographs, blurred masks of radiographs are found again best at 0.4.
        gamma: exponent on both sides of that contest; moves no boundary, but says how decided the probabilities are.
        presence: classes whose presence score is lower are absent and get probability 0 everywhere.
        peak: percentile of a map that counts as its maximum: no single hot pixel sets the scale, a small finding is
            not overlooked.
        floor: percentile of a map that counts as zero; plain diffusion models attend a little to everything.
        step: how far the background is moved to either side to measure stability.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    background: float = Field(0.4, gt=0, lt=1)
    gamma: float = Field(3.0, gt=0, le=20)
    presence: float = Field(0.15, ge=0, le=1)
    peak: float = Field(99.5, gt=50, le=100)
    floor: float = Field(30.0, ge=0, lt=50)
    step: float = Field(0.1, gt=0, lt=0.5)

    def __call__(
        self, maps: np.ndarray, height: int, width: int, competing: np.ndarray, known: Calibrated | None = None
    ) -> Evidence:
        """Weigh the classes against the background and each other.

        Args:
            maps: (K, h, w) float32, >= 0, raw; values that are no numbers count as 0.
            height: rows of the image.
            width: columns of the image.
            competing: (K,) bool, false for classes that lie over others.
            known: values that maps of overlapping classes are compared with, instead of their own peak and floor.
        """
        raw = upsample(np.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0), height, width)  # (K, H, W)
        floor, middle, peak = np.percentile(raw[:, ::2, ::2], (self.floor, 50.0, self.peak), axis=(1, 2))
        # Maps of overlapping classes may be shares, on a scale of their own: they do not make the anatomy look weak.
        presence = np.where(competing, _presence(middle, peak, peak[competing]), _presence(middle, peak, peak))
        if known is not None:
            gated = np.isfinite(known.gate)
            presence[gated] = np.clip(self.presence * peak[gated] / known.gate[gated], 0.0, 1.0)
        there = presence >= max(self.presence, EPSILON)
        scale = np.where(there, np.maximum(peak - floor, EPSILON), 1.0)[:, None, None]
        score = np.clip((raw - floor[:, None, None]) / scale, 0.0, None)
        if known is not None:
            fixed = np.isfinite(known.level)
            score[fixed] = raw[fixed] * (self.background / known.level[fixed])[:, None, None]
        score[~there] = 0.0
        power = score.astype(np.float32) ** self.gamma
        rest = np.float32(self.background**self.gamma)
        total = np.where(competing[:, None, None], rest + power[competing].sum(axis=0)[None], rest + power)
        return Evidence((power / total).astype(np.float32), presence, self._stability(score))

    def _stability(self, score: np.ndarray) -> np.ndarray:
        lower = (score > max(self.background - self.step, EPSILON)).sum(axis=(1, 2))
        higher = (score > self.background + self.step).sum(axis=(1, 2))
        return higher / np.maximum(lower, 1)  # the higher mask lies in the lower one: this is their IoU


def upsample(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """(K, h, w) float32 -> (K, height, width) float32, bicubic, >= 0 (the kernel rings below zero at edges)."""
    size = (width, height)
    big = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in maps.astype(np.float32)]
    return np.maximum(np.stack(big), 0.0)


def _presence(middle: np.ndarray, peak: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(K,) medians and peaks -> (K,) in 0..1: contrast of the map, times its strength next to the strongest of others.

    Contrast alone would let the noise of an absent class pass; strength alone would let a flat map pass.
    """
    contrast = (peak - middle) / (peak + middle + EPSILON)
    strength = np.minimum(peak / max(float(others.max(initial=0.0)), EPSILON), 1.0)
    return np.clip(contrast * strength, 0.0, 1.0)
