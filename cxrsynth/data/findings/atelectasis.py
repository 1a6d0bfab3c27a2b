"""Plate atelectasis: thin, nearly horizontal bands of collapsed lung, most often at the base."""

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
from cxrsynth.data.findings.texture import attenuate

TRIES = 20
EDGE = 0.35  # of a band's peak: less of it is not outlined


class Atelectasis(Finding):
    """One to three bands.

    Attributes:
        length: smallest and largest, of the lung's width.
        thickness: smallest and largest half width, pixels at a width of 256.
        peak: smallest and largest density, 1 is that of the heart.
        both: probability of both sides where no side is asked for.
    """

    name: ClassVar[str] = "atelectasis"
    phrases: ClassVar[tuple[str, ...]] = ("atelectasis", "linear atelectasis", "plate-like atelectasis")
    labels: ClassVar[tuple[str, ...]] = (
        "atelectasis",
        "opacity",
        "consolidation",
        "pneumonia",
        "infiltration",
        "fibrosis",
    )

    length: tuple[float, float] = (0.3, 0.75)
    thickness: tuple[float, float] = (1.1, 2.5)
    peak: tuple[float, float] = (0.3, 0.65)
    both: float = Field(0.2, ge=0, le=1)

    def graded(self, severity: float) -> Self:
        """See `Finding`: length and density."""
        return self.model_copy(update={"length": part_of(self.length, severity), "peak": part_of(self.peak, severity)})

    def __call__(self, image: np.ndarray, chest: Chest, rng: np.random.Generator) -> Put:
        """See `Finding`."""
        self.check(chest)
        density, mask = np.zeros(chest.shape, np.float32), np.zeros(chest.shape, bool)
        for side in self.sides(chest, rng, self.both):
            lung = chest.lungs[side]
            for _ in range(int(rng.integers(1, 3))):
                room = None if chest.within is None else chest.within & lung.mask
                band = self.band_of(lung, room, chest.unit, rng)
                density = np.maximum(density, rng.uniform(*self.peak) * band * lung.over)
                mask |= (band > EDGE) & lung.mask
        large_enough(mask, chest, self.name)
        zones = zones_of(mask, chest)
        phrase = self.phrases[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]
        facts = {"zones": zones}
        return Put(attenuate(image, chest.water * density), mask, f"{phrase} {place_words(zones, rng)}", facts)

    def band_of(self, lung: Lung, room: np.ndarray | None, unit: float, rng: np.random.Generator) -> np.ndarray:
        """(H, W) float32 in 0..1: a band, a little bent, thinner and fainter towards its ends."""
        height, width = lung.mask.shape
        y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
        for _ in range(TRIES):
            if room is None:
                _, down = self.band(rng, (0.1, 0.5, 1.6))
                row = lung.top + min(down, 0.9) * lung.height
            else:
                row, _ = spot_within(room, rng)
            columns = np.flatnonzero(lung.mask[int(np.clip(row, 0, height - 1))])
            if len(columns) < 0.4 * lung.width:
                continue
            column = float(columns[int(len(columns) * rng.uniform(0.3, 0.7))])
            reach = 0.5 * rng.uniform(*self.length) * len(columns)
            # Outwards and down or up, as discs of lung lie.
            turn = rng.uniform(-0.35, 0.35)
            along = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
            across = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
            bend = rng.uniform(-0.12, 0.12) * along**2 / max(reach, 1.0)
            wave = ndimage.gaussian_filter1d(rng.standard_normal(width), 7 * unit).astype(np.float32)[None]
            thick = rng.uniform(*self.thickness) * unit * np.clip(1 + 3 * wave, 0.6, 1.6)
            end = np.clip(1 - (np.abs(along) / reach) ** rng.uniform(2, 5), 0, 1)
            return np.asarray(end * np.exp(-0.5 * ((across - bend) / thick) ** 2), np.float32)
        raise CannotCarryError(self.name, "there is no room for it in the lungs")
