"""Pneumothorax: a thin pleural line away from the chest wall; beyond it no vessel, but the ribs as before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from scipy import ndimage

from cxrsynth.data.findings.chest import Chest, Lung
from cxrsynth.data.findings.finding import CannotCarryError, Finding, Put, large_enough
from cxrsynth.data.findings.texture import attenuate, sigmoid

Severity = Literal["any", "small", "moderate", "large"]
# Severity -> smallest and largest share by which the lung falls away from the apex, from the side, and from the base.
FALLS = {
    "small": ((0.13, 0.24), (0.09, 0.17), (0.0, 0.0)),
    "moderate": ((0.2, 0.36), (0.2, 0.35), (0.0, 0.08)),
    "large": ((0.3, 0.5), (0.38, 0.6), (0.08, 0.28)),
}
HILUM = (0.42, 0.1)  # where the lung hangs: share of its height from the apex, of its width from the inner border
RIB = 19  # pixels at a width of 256: bright lines of this length are ribs' edges, shorter ones vessels
ANGLES = np.deg2rad(np.arange(-54, 55, 12))  # of ribs against the horizontal; the vessels of the base run steeper
SEEN = 30  # pixels at a width of 256 that a gap must have


@dataclass(frozen=True, slots=True)
class Fallen:
    """A lung that has fallen away from the chest wall.

    Attributes:
        lung: (H, W) float32, 1 in what is left of the lung, 0 beyond the pleural line.
        air: (H, W) float32, 1 where the lung has left.
        rows, columns: (H, W) float32, where in the full lung each place comes from.
    """

    lung: np.ndarray
    air: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


class Pneumothorax(Finding):
    """Air between lung and chest wall.

    The vessel layer of the image (bright details that are short along the directions of ribs) is taken apart from ribs
    and tone; beyond the pleural line it is left out, within the lung it is drawn together towards the hilum.

    Attributes:
        severity: ``any`` draws one by `shares`.
        line: smallest and largest attenuation of the pleural line.
        air: smallest and largest attenuation that is missing beyond the line, 1 is that of the heart.
    """

    name: ClassVar[str] = "pneumothorax"
    phrases: ClassVar[tuple[str, ...]] = ("pneumothorax",)
    labels: ClassVar[tuple[str, ...]] = ("pneumothorax",)
    excludes: ClassVar[frozenset[str]] = frozenset({"effusion"})
    zoned: ClassVar[bool] = False

    severity: Severity = "any"
    line: tuple[float, float] = (0.13, 0.3)
    air: tuple[float, float] = (0.06, 0.17)
    shares: tuple[float, float, float] = Field((0.35, 0.4, 0.25), description="Of the severities.")

    def graded(self, severity: float) -> Self:
        """See `Finding`: how far the lung has fallen, in three steps."""
        names = tuple(FALLS)
        return self.model_copy(update={"severity": names[min(int(severity * len(names)), len(names) - 1)]})

    def __call__(self, image: np.ndarray, chest: Chest, rng: np.random.Generator) -> Put:
        """See `Finding`."""
        self.check(chest)
        side = self.sides(chest, rng)[0]
        lung = chest.lungs[side]
        severity = self.severity
        if severity == "any":
            severity = tuple(FALLS)[rng.choice(3, p=np.array(self.shares) / sum(self.shares))]  # type: ignore[assignment]
        apex, lateral, base = (rng.uniform(*span) for span in FALLS[severity])
        fallen = fall(lung, side, apex, lateral, base, chest.unit, rng)
        outside = lung.mask & (fallen.air > 0.5)
        large_enough(outside, chest, self.name)
        if outside.sum() < SEEN * chest.unit**2:
            raise CannotCarryError(self.name, "the gap would not be seen")
        # 1 where there is air now, with the softness of both borders.
        air = fallen.air * lung.soft
        vessels = vessel_layer(image, lung, chest.unit)
        moved = self.moved(vessels, lung, fallen)
        crowd = 1 + 0.5 * lateral
        noise = 0.35 * chest.grain * rng.standard_normal(chest.shape, np.float32)
        now = image - vessels + np.where(lung.mask, (1 - air) * crowd * moved, vessels) + air * noise
        denser = rng.uniform(0.3, 0.7) * lateral**2 * lung.soft * (1 - air)
        amount = chest.water * (denser - rng.uniform(*self.air) * air) + self.pleural_line(
            fallen, lung, chest.unit, rng
        )
        facts = {"severity": severity, "sides": [side], "apex": round(apex, 3), "lateral": round(lateral, 3)}
        where = "apical " if severity == "small" and rng.random() < 0.6 else ""
        words = f"{severity} {side} {where}{self.phrases[0]}"
        return Put(attenuate(now, amount), outside, words, facts)

    def moved(self, vessels: np.ndarray, lung: Lung, fallen: Fallen) -> np.ndarray:
        """(H, W) float32: the vessel layer drawn together into what is left of the lung."""
        box = (slice(lung.top, lung.bottom), slice(lung.start, lung.stop))
        found = np.zeros_like(vessels)
        found[box] = ndimage.map_coordinates(vessels, (fallen.rows[box], fallen.columns[box]), order=1, mode="constant")
        return found

    def pleural_line(self, fallen: Fallen, lung: Lung, unit: float, rng: np.random.Generator) -> np.ndarray:
        """(H, W) float32 attenuation of the line: thin, along the lung's new edge only, fading here and there."""
        # The middle of the lung's new edge is where half of it is left; its slope says how far that is in pixels.
        down, across = np.gradient(fallen.lung)
        slope = np.maximum(np.hypot(down, across), 1e-3)
        away = (fallen.lung - 0.5) / slope
        thick = rng.uniform(0.55, 0.85) * unit
        ridge = np.exp(-0.5 * np.clip(away / thick, -8, 8) ** 2)
        free = ndimage.gaussian_filter((lung.soft > 0.97).astype(np.float32), 0.8 * unit)  # not along the old border
        wave = ndimage.gaussian_filter1d(rng.standard_normal(len(lung.mask)), 10 * unit)[:, None]
        fading = np.clip(0.85 + 0.3 * wave / max(float(wave.std()), 1e-6), 0.3, 1.25)
        return (rng.uniform(*self.line) * ridge * free * fading).astype(np.float32)


def fall(
    lung: Lung, side: str, apex: float, lateral: float, base: float, unit: float, rng: np.random.Generator
) -> Fallen:
    """The lung made smaller about its hilum.

    Args:
        apex, lateral, base: shares by which it becomes smaller upwards, outwards and downwards.
    """
    height, width = lung.mask.shape
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None]
    row = lung.top + rng.normal(HILUM[0], 0.04) * lung.height
    inner = lung.stop - HILUM[1] * lung.width if side == "right" else lung.start + HILUM[1] * lung.width
    outwards = -1.0 if side == "right" else 1.0
    lower = sigmoid((lung.down - rng.uniform(0.45, 0.75)) / 0.12)  # 0 in the upper, 1 in the lower lung
    wave = ndimage.gaussian_filter1d(rng.standard_normal(height), 0.12 * lung.height)
    wave = 1 + 0.12 * (wave / max(float(np.abs(wave).max()), 1e-6))[:, None]
    less = rng.uniform(0.1, 0.55) if base == 0 else rng.uniform(0.5, 0.95)  # of the gap is left at the base
    side_share = np.clip(1 - lateral * wave * (1 - (1 - less) * lower), 0.25, 1)
    up_share = np.where(y < row, 1 - apex, 1 - base)
    rows = row + (y - row) / up_share
    out = (x - inner) * outwards
    columns = inner + outwards * np.where(out > 0, out / side_share, out)
    shape = lung.mask.shape
    from_rows, from_columns = (np.broadcast_to(part, shape).astype(np.float32) for part in (rows, columns))
    # The lung's outline in the image is that of a polygon: its shrunken copy is smooth.
    smooth = ndimage.gaussian_filter(lung.mask.astype(np.float32), 2.0 * unit)
    left = ndimage.map_coordinates(smooth, (from_rows, from_columns), order=1, mode="constant")
    left, whole = (np.asarray(sigmoid((part - 0.5) / 0.09), np.float32) for part in (left, smooth))
    return Fallen(left, np.clip(whole - left, 0, 1), from_rows, from_columns)


def vessel_layer(image: np.ndarray, lung: Lung, unit: float) -> np.ndarray:
    """(H, W) float32 >= 0: bright details within a lung that are short in every direction that ribs have.

    An opening by a line keeps what is at least as long as the line in its direction; the maximum over directions keeps
    ribs and their edges, and everything larger.
    """
    pad = round(RIB * unit)
    top, bottom = max(lung.top - pad, 0), min(lung.bottom + pad, image.shape[0])
    start, stop = max(lung.start - pad, 0), min(lung.stop + pad, image.shape[1])
    part = image[top:bottom, start:stop]
    kept = np.zeros_like(part)
    reach = int(RIB * unit / 2)
    steps = np.arange(-reach, reach + 1)
    for angle in ANGLES:
        shifts = sorted({(round(float(s * np.sin(angle))), round(float(s * np.cos(angle)))) for s in steps})
        np.maximum(kept, _extreme(_extreme(part, shifts, np.minimum), shifts, np.maximum), out=kept)
    found = np.zeros_like(image)
    found[top:bottom, start:stop] = np.clip(part - kept, 0, None)
    return found * lung.soft


def _extreme(part: np.ndarray, shifts: list[tuple[int, int]], better: np.ufunc) -> np.ndarray:
    """The least or greatest value over a set of shifts (symmetric about 0), edges repeated."""
    reach = max(max(abs(y), abs(x)) for y, x in shifts)
    padded = np.pad(part, reach, mode="edge")
    height, width = part.shape
    found = part
    for y, x in shifts:
        found = better(found, padded[reach + y : reach + y + height, reach + x : reach + x + width])
    return np.asarray(found)
