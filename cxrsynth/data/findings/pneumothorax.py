"""Pneumothorax: a thin pleural line away from the chest wall; beyond it no vessel, but the ribs as before."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy import ndimage

from cxrsynth.data.findings.chest import Chest, Lung
from cxrsynth.data.findings.finding import Finding, Put, large_enough
from cxrsynth.data.findings.texture import attenuate

Severity = Literal["any", "small", "moderate", "large"]
# Severity -> lowest and highest gap between lung and chest wall at the apex, as a share of the lung's width.
GAPS = {"small": (0.12, 0.2), "moderate": (0.24, 0.38), "large": (0.45, 0.65)}
RIB = 13  # pixels at a width of 256: a straight structure of this length is a rib's edge, a shorter one a vessel
ANGLES = 10


class Pneumothorax(Finding):
    """Air between lung and chest wall.

    The vessel layer of the image (bright details that are short in every direction) is taken apart from ribs and tone;
    beyond the pleural line it is left out, within the lung it is drawn together towards the hilum.

    Attributes:
        severity: ``any`` draws one by `shares`.
        line: smallest and largest attenuation of the pleural line.
        air: smallest and largest attenuation that is missing beyond the line, 1 is that of the heart.
    """

    name: ClassVar[str] = "pneumothorax"
    phrases: ClassVar[tuple[str, ...]] = ("pneumothorax",)
    labels: ClassVar[tuple[str, ...]] = ("pneumothorax",)
    excludes: ClassVar[frozenset[str]] = frozenset({"effusion"})

    severity: Severity = "any"
    line: tuple[float, float] = (0.06, 0.16)
    air: tuple[float, float] = (0.05, 0.16)
    shares: tuple[float, float, float] = Field((0.4, 0.35, 0.25), description="Of the severities.")

    def __call__(self, image: np.ndarray, chest: Chest, rng: np.random.Generator) -> Put:
        """See `Finding`."""
        self.check(chest)
        side = self.sides(chest, rng)[0]
        lung = chest.lungs[side]
        severity = self.severity
        if severity == "any":
            severity = tuple(GAPS)[rng.choice(3, p=np.array(self.shares) / sum(self.shares))]  # type: ignore[assignment]
        gap = rng.uniform(*GAPS[severity])
        edge = self.pleura(lung, gap, rng)  # (H, 1), where the lung ends, 0 hilum to 1 chest wall
        beyond = (lung.out - edge) * lung.width  # pixels beyond the line, about
        outside = (beyond > 0) & lung.mask
        large_enough(outside, chest, self.name)
        vessels = vessel_layer(image, lung, chest.unit)
        drawn = self.collapse(vessels, lung, edge)
        soft = ndimage.gaussian_filter(outside.astype(np.float32), 0.7 * chest.unit) * lung.soft
        bare = image - vessels
        crowd = 1 + 0.6 * gap
        image = np.where(lung.mask, bare + (1 - soft) * crowd * drawn, image).astype(np.float32)
        inside = np.clip(lung.soft - soft, 0, 1)
        amount = -rng.uniform(*self.air) * soft + rng.uniform(0.1, 0.35) * gap * inside
        amount = chest.water * amount + self.pleural_line(outside, lung, chest.unit, rng)
        facts = {"severity": severity, "sides": [side], "gap": round(gap, 3)}
        where = "apical " if severity == "small" and rng.random() < 0.6 else ""
        words = f"{severity} {side} {where}{self.phrases[0]}"
        return Put(attenuate(image, amount), outside, words, facts)

    def pleura(self, lung: Lung, gap: float, rng: np.random.Generator) -> np.ndarray:
        """(H, 1) float32: where the lung's outer edge lies now in each row, 0 inner to 1 outer border."""
        down = np.clip(lung.down[:, 0], 0, 1)
        reach = rng.uniform(0.5, 0.85) if gap < 0.22 else rng.uniform(0.95, 1.5)  # how far down the gap goes
        taper = np.clip(1 - down / reach, 0, 1) ** rng.uniform(0.6, 1.1)
        base = gap * rng.uniform(0.2, 0.6) if gap > 0.22 else 0.0
        wide = base + (gap - base) * taper
        # Over the apex the lung falls away as a dome: nothing of it remains at the very top.
        fall = rng.uniform(0.5, 0.9) * gap * lung.width / lung.height
        dome = np.sqrt(np.clip((down - fall) / max(1.6 * fall, 1e-3), 0, 1))
        wave = ndimage.gaussian_filter1d(rng.standard_normal(len(down)), 0.09 * lung.height)
        wave = 0.02 * wave / max(float(np.abs(wave).max()), 1e-6)
        edge = (1 - wide + wave * (wide > 0.02)) * dome
        return np.clip(edge, 0, 1).astype(np.float32)[:, None]

    def collapse(self, vessels: np.ndarray, lung: Lung, edge: np.ndarray) -> np.ndarray:
        """(H, W) float32: the vessel layer drawn together, row by row, into what is left of the lung."""
        height, width = vessels.shape
        share = np.maximum(edge, 0.15)
        inner = lung.out / share  # where in the full lung this place comes from
        moved = (inner - lung.out) * _row_width(lung)
        sign = -1.0 if _is_right(lung) else 1.0
        columns = np.arange(width, dtype=np.float32)[None] + sign * moved
        rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], columns.shape)
        box = (slice(lung.top, lung.bottom), slice(lung.start, lung.stop))
        found = np.zeros_like(vessels)
        found[box] = ndimage.map_coordinates(vessels, (rows[box], columns[box]), order=1, mode="constant")
        return found

    def pleural_line(self, outside: np.ndarray, lung: Lung, unit: float, rng: np.random.Generator) -> np.ndarray:
        """(H, W) float32 attenuation of the line: thin, along the lung's new edge only, fading here and there."""
        remains = lung.mask & ~outside
        grown = ndimage.binary_dilation(outside)
        edge = (grown & remains).astype(np.float32)
        thin = ndimage.gaussian_filter(edge, rng.uniform(0.45, 0.7) * unit)
        fading = ndimage.gaussian_filter(rng.standard_normal(edge.shape).astype(np.float32), 12 * unit)
        fading = np.clip(0.8 + 0.35 * fading / max(float(fading.std()), 1e-6), 0.25, 1.3)
        return rng.uniform(*self.line) * thin / max(float(thin.max()), 1e-6) * fading


def vessel_layer(image: np.ndarray, lung: Lung, unit: float) -> np.ndarray:
    """(H, W) float32 >= 0: bright details within a lung that are short in every direction, as vessels are.

    An opening by a line keeps what is at least as long as the line in its direction; the maximum over directions keeps
    ribs and their edges, and everything larger.
    """
    pad = RIB
    top, bottom = max(lung.top - pad, 0), min(lung.bottom + pad, image.shape[0])
    start, stop = max(lung.start - pad, 0), min(lung.stop + pad, image.shape[1])
    part = image[top:bottom, start:stop]
    kept = np.zeros_like(part)
    reach = RIB * unit / 2
    steps = np.arange(-int(reach), int(reach) + 1)
    for angle in np.arange(ANGLES) * np.pi / ANGLES:
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


def _row_width(lung: Lung) -> np.ndarray:
    """(H, 1) float32: columns from the lung's inner to its outer border in each row."""
    step = np.abs(lung.out[:, -1:] - lung.out[:, :1])
    return np.asarray((lung.out.shape[1] - 1) / np.maximum(step, 1e-6), np.float32)


def _is_right(lung: Lung) -> bool:
    """Whether it lies on the left of the picture: its outer border is on the left."""
    return bool(lung.out[lung.top, 0] > lung.out[lung.top, -1])
