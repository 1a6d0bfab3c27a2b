"""Nodules and masses: a sphere in the lung, its thickness in the beam, its rim a little uneven."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from pydantic import Field
from scipy import ndimage

from cxrsynth.data.findings.chest import Chest, Lung
from cxrsynth.data.findings.finding import (
    CannotCarryError,
    Finding,
    Put,
    large_enough,
    part_of,
    place_words,
    spot_within,
    zones_of,
)
from cxrsynth.data.findings.texture import attenuate, fractal

TRIES = 30
HARMONICS = 4
REACH = 2.0  # how far an uneven rim may lie from the middle, of the radius


class Nodule(Finding):
    """A round density below 3 cm.

    Attributes:
        radius: smallest and largest, of the lung's width; a lung is about 12 cm wide.
        peak: smallest and largest density at the middle, 1 is that of the heart.
        several: probability of two or three.
        uneven: smallest and largest displacement of the rim, of the radius.
    """

    name: ClassVar[str] = "nodule"
    phrases: ClassVar[tuple[str, ...]] = ("nodule", "pulmonary nodule", "lung nodule")
    labels: ClassVar[tuple[str, ...]] = ("nodule", "mass", "tuberculosis")

    radius: tuple[float, float] = (0.045, 0.12)
    peak: tuple[float, float] = (0.28, 0.62)
    several: float = Field(0.15, ge=0, le=1)
    uneven: tuple[float, float] = (0.03, 0.12)

    def graded(self, severity: float) -> Self:
        """See `Finding`: the size, and the density a little."""
        peak = part_of(self.peak, severity, 0.5)
        return self.model_copy(update={"radius": part_of(self.radius, severity), "peak": peak})

    def __call__(self, image: np.ndarray, chest: Chest, rng: np.random.Generator) -> Put:
        """See `Finding`."""
        self.check(chest)
        count = int(rng.integers(2, 4)) if rng.random() < self.several else 1
        density, mask = np.zeros(chest.shape, np.float32), np.zeros(chest.shape, bool)
        radii = []
        sides = self.sides(chest, rng, both=0.4 if count > 1 else 0.0)
        for number in range(max(count, len(sides))):
            lung = chest.lungs[sides[number % len(sides)]]
            radius = rng.uniform(*self.radius) * lung.width
            radii.append(radius)
            one, outline = self.ball(lung, radius, chest.within, rng)
            density = np.maximum(density, one * rng.uniform(*self.peak))
            mask |= outline
        mask &= chest.inside()
        large_enough(mask, chest, self.name)
        zones = zones_of(mask, chest)
        size = self.adjective(max(radii) / lung.width)
        plural = len(radii) > 1
        phrase = self.phrases[int(rng.integers(len(self.phrases)))]
        noun = f"multiple {phrase}s" if phrase[-1] != "s" else f"multiple {phrase}es"
        words = f"{noun if plural else f'{size}{phrase}'} {place_words(zones, rng)}"
        facts = {"count": len(radii), "radius": [round(one, 1) for one in radii], "zones": zones}
        return Put(attenuate(image, chest.water * density), mask, words, facts)

    def adjective(self, radius: float) -> str:
        """Size in words."""
        return "small " if radius < 0.07 else ""

    def ball(
        self, lung: Lung, radius: float, within: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) float32 thickness in 0..1 and (H, W) bool outline, most of it within the lung."""
        y, x = np.arange(lung.mask.shape[0])[:, None], np.arange(lung.mask.shape[1])[None]
        for _ in range(TRIES):
            if within is None:
                _, down = self.band(rng)
                row = float(int(np.clip(lung.top + down * lung.height, 0, lung.mask.shape[0] - 1)))
                columns = np.flatnonzero(lung.mask[int(row)])
                if len(columns) < 2 * radius:
                    continue
                column = float(columns[rng.integers(len(columns))])
            else:
                row, column = spot_within(within & lung.mask, rng)
            disc = np.hypot(y - row, x - column) <= radius
            if lung.mask[disc].mean() < 0.9:
                continue
            return self.surface(
                lung.mask.shape, row + rng.uniform(-0.5, 0.5), column + rng.uniform(-0.5, 0.5), radius, rng
            )
        raise CannotCarryError(self.name, "there is no room for it in the lungs")

    def surface(
        self, shape: tuple[int, ...], row: float, column: float, radius: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Thickness and outline of an uneven ball about a point; only the part of the image around it is computed."""
        reach = int(REACH * radius) + 4
        top, bottom = max(round(row) - reach, 0), min(round(row) + reach, shape[0])
        start, stop = max(round(column) - reach, 0), min(round(column) + reach, shape[1])
        y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)
        x = np.arange(start, stop, dtype=np.float32)[None] - np.float32(column)
        stretch, turn = rng.uniform(0.85, 1.18), rng.uniform(0, np.pi)
        a, b = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        angle = np.arctan2(b, a)
        uneven = rng.uniform(*self.uneven)
        rim = np.ones(angle.shape, np.float32)
        for order in range(2, 2 + HARMONICS):
            rim += 2 * uneven / order**1.3 * rng.standard_normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
        away = np.hypot(a * stretch, b / stretch) / (radius * np.clip(rim, 0.5, REACH / 1.2))
        # A sphere's thickness; the power makes some flatter, as calcified or lobed ones are.
        thick = np.clip(1 - away**2, 0, 1) ** rng.uniform(0.4, 0.8)
        cloudy = 1 + rng.uniform(0, 0.12) * fractal(thick.shape, 1.8, rng)
        blur = rng.uniform(0.35, 0.9) * max(1.0, radius / 9)
        thickness, outline = np.zeros(shape, np.float32), np.zeros(shape, bool)
        thickness[top:bottom, start:stop] = ndimage.gaussian_filter((thick * cloudy).astype(np.float32), blur)
        outline[top:bottom, start:stop] = away <= 1.0
        return thickness, outline


class Mass(Nodule):
    """A round density above 3 cm, lobed or with an irregular rim."""

    name: ClassVar[str] = "mass"
    phrases: ClassVar[tuple[str, ...]] = ("mass", "lung mass", "pulmonary mass")

    radius: tuple[float, float] = (0.14, 0.26)
    peak: tuple[float, float] = (0.45, 0.9)
    several: float = Field(0.0, ge=0, le=1)
    uneven: tuple[float, float] = (0.04, 0.14)

    def adjective(self, radius: float) -> str:
        """Size in words."""
        return "large " if radius > 0.21 else ""
