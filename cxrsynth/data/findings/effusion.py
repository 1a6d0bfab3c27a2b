"""Pleural effusion: fluid below a meniscus that climbs towards the chest wall and blunts the angle."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from scipy import ndimage

from cxrsynth.data.findings.chest import Chest, Lung
from cxrsynth.data.findings.finding import Finding, Put, large_enough, part_of
from cxrsynth.data.findings.texture import fill, fractal, sigmoid

# Severity -> lowest and highest level of the fluid, as a share of the lung's height.
LEVELS = {"small": (0.07, 0.16), "moderate": (0.2, 0.38), "large": (0.45, 0.68), "massive": (0.8, 0.97)}
Severity = Literal["any", "small", "moderate", "large", "massive"]


class Effusion(Finding):
    """Free pleural fluid in an upright patient.

    Attributes:
        severity: ``any`` draws one by `shares`.
        level: smallest and largest share of the lung's height that the fluid reaches; None: as the severity has it.
        both: probability of both sides where no side is asked for.
        density: smallest and largest, 1 is that of the heart.
    """

    name: ClassVar[str] = "effusion"
    phrases: ClassVar[tuple[str, ...]] = ("pleural effusion", "effusion")
    labels: ClassVar[tuple[str, ...]] = ("effusion", "pleural thickening", "pleurisy")
    excludes: ClassVar[frozenset[str]] = frozenset({"pneumothorax"})
    zoned: ClassVar[bool] = False

    severity: Severity = "any"
    level: tuple[float, float] | None = None
    both: float = Field(0.2, ge=0, le=1)
    density: tuple[float, float] = (0.82, 1.15)
    shares: tuple[float, float, float, float] = Field((0.4, 0.35, 0.2, 0.05), description="Of the severities.")

    def graded(self, severity: float) -> Self:
        """See `Finding`: the level of the fluid."""
        names = tuple(LEVELS)
        number = min(int(severity * len(names)), len(names) - 1)
        level = part_of(LEVELS[names[number]], severity * len(names) - number)
        return self.model_copy(update={"severity": names[number], "level": level})

    def __call__(self, image: np.ndarray, chest: Chest, rng: np.random.Generator) -> Put:
        """See `Finding`."""
        self.check(chest)
        sides = self.sides(chest, rng, self.both)
        density, mask = np.zeros(chest.shape, np.float32), np.zeros(chest.shape, bool)
        said: dict[str, str] = {}
        for side in sides:
            severity = self.severity
            if severity == "any":
                severity = tuple(LEVELS)[rng.choice(4, p=np.array(self.shares) / sum(self.shares))]  # type: ignore[assignment]
                severity = "large" if severity == "massive" and len(sides) == 2 else severity
            amount, outline = self.fluid(
                chest.lungs[side], rng.uniform(*(self.level or LEVELS[severity])), chest.unit, rng
            )
            density = np.maximum(density, amount * rng.uniform(*self.density))
            mask |= outline
            said[side] = severity
        large_enough(mask, chest, self.name)
        facts = {"severity": said, "sides": list(said)}
        return Put(fill(image, chest.water * density, chest.dense), mask, self.words(said, rng), facts)

    def words(self, said: dict[str, str], rng: np.random.Generator) -> str:
        """``small left pleural effusion``, ``moderate bilateral pleural effusions``."""
        phrase = self.phrases[int(rng.random() < 0.25)]
        parts = [f"{severity} {side} {phrase}" for side, severity in said.items()]
        if len(set(said.values())) == 1 and len(said) == 2:
            return f"{next(iter(said.values()))} bilateral {phrase}s"
        return " and ".join(parts)

    def fluid(self, lung: Lung, level: float, unit: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) float32 density in 0..1 and (H, W) bool outline of fluid up to a share of the lung's height."""
        climb = rng.uniform(0.05, 0.14) + 0.22 * level * (1 - level)
        power = rng.uniform(1.8, 3.0)
        inner = rng.uniform(0, 0.35) * climb * np.clip(1 - lung.out / 0.25, 0, 1) ** 2
        x = np.clip(lung.out, 0, 1)
        wave = ndimage.gaussian_filter1d(rng.standard_normal(lung.mask.shape[1]), 14 * unit)
        wave = (0.006 * wave / max(float(np.abs(wave).max()), 1e-6)).astype(np.float32)
        surface = 1 - level - climb * x**power - inner + wave[None]
        deep = lung.down - surface  # below 0 above the surface
        if level > 0.1:
            deep = deep - 0.5 * rng.uniform(0, 0.06) * (1 - x)
        sharp = rng.uniform(0.008, 0.022)
        # Fluid lies before and behind the lung: it thickens downwards and is thin where it climbs.
        depth = rng.uniform(0.05, 0.14)
        amount = sigmoid(deep / sharp) * (0.45 + 0.55 * (1 - np.exp(-np.clip(deep, 0, 2) / depth)))
        uneven = 1 + 0.05 * fractal(lung.mask.shape, 2.6, rng)
        return (amount * uneven * lung.over).astype(np.float32), (deep > 0) & lung.mask
