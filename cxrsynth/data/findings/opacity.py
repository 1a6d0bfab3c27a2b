"""Airspace disease: a soft, ragged, cloudy density in the lung; focal, lobar, patchy or on both sides."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from scipy import ndimage

from cxrsynth.data.findings.chest import Chest, Lung
from cxrsynth.data.findings.finding import (
    Finding,
    Put,
    large_enough,
    part_of,
    place_words,
    spot_within,
    zones_of,
)
from cxrsynth.data.findings.texture import fill, fractal, sigmoid

Pattern = Literal["focal", "lobar", "patchy", "bilateral"]
VISIBLE = 0.3  # of the peak: less of it is not outlined


class Opacity(Finding):
    """An opacity of any kind.

    Attributes:
        pattern: ``any`` draws one.
        peak: smallest and largest density, 1 is that of the heart.
        size: smallest and largest radius, of the lung's width.
        rim: smallest and largest softness of the rim, of the radius.
        clouds: smallest and largest amplitude of the texture.
    """

    name: ClassVar[str] = "opacity"
    phrases: ClassVar[tuple[str, ...]] = ("opacity", "airspace opacity", "lung opacity")
    labels: ClassVar[tuple[str, ...]] = (
        "opacity", "consolidation", "pneumonia", "infiltration", "infiltrate", "tuberculosis", "covid", "edema",
        "ground", "atelectasis", "ARDS", "mass",
    )  # fmt: skip
    excludes: ClassVar[frozenset[str]] = frozenset({"consolidation", "ground_glass"})
    strengths: ClassVar[tuple[str, str]] = ("faint ", "dense ")  # words for the lowest and the highest quarter

    pattern: Literal["any", "focal", "lobar", "patchy", "bilateral"] = "any"
    peak: tuple[float, float] = (0.36, 0.95)
    size: tuple[float, float] = (0.22, 0.5)
    rim: tuple[float, float] = (0.14, 0.36)
    clouds: tuple[float, float] = (0.15, 0.42)
    shares: tuple[float, float, float, float] = Field((0.4, 0.2, 0.25, 0.15), description="Of the patterns.")

    def graded(self, severity: float) -> Self:
        """See `Finding`: density and size."""
        return self.model_copy(update={"peak": part_of(self.peak, severity), "size": part_of(self.size, severity)})

    def __call__(self, image: np.ndarray, chest: Chest, rng: np.random.Generator) -> Put:
        """See `Finding`."""
        self.check(chest)
        pattern = self.draw_pattern(chest, rng)
        sides = ["right", "left"] if pattern == "bilateral" else self.sides(chest, rng)
        peak = rng.uniform(*self.peak)
        rough = fractal(chest.shape, rng.uniform(2.9, 3.9), rng)
        profile = np.zeros(chest.shape, np.float32)
        for side in sides:
            lung = chest.lungs[side]
            lobar = pattern == "lobar"
            shape = self.lobe(lung, side, rough, rng) if lobar else self.patches(chest, side, pattern, rough, rng)
            profile = np.maximum(profile, shape * lung.over)
        texture = 1 + rng.uniform(*self.clouds) * fractal(chest.shape, rng.uniform(2.1, 3.2), rng)
        density = peak * chest.water * profile * np.clip(texture, 0.25, 1.9)
        outline = ndimage.gaussian_filter(profile, 1.5 * chest.unit)  # no crumbs about the rim
        mask = (outline > VISIBLE) & chest.inside()
        large_enough(mask, chest, self.name)
        zones = zones_of(mask, chest)
        where = place_words(zones, rng)
        if len(zones) < 2 and pattern == "bilateral":
            pattern = "patchy"  # one side was too little to be named
        facts = {"pattern": pattern, "density": round(peak, 3), "zones": zones}
        return Put(fill(image, density, chest.dense), mask, f"{self.noun(pattern, peak, rng)} {where}", facts)

    def draw_pattern(self, chest: Chest, rng: np.random.Generator) -> Pattern:
        """The pattern asked for, or one by `shares` that fits the sides asked for."""
        if self.side == "both":
            return "bilateral"
        if self.pattern != "any":
            return self.pattern
        shares = np.array(self.shares, float)
        if self.side != "any" or len(chest.lungs) < 2:
            shares[3] = 0
        if chest.within is not None:
            shares[1] = 0  # a lobe is a place of its own
        names: tuple[Pattern, ...] = ("focal", "lobar", "patchy", "bilateral")
        return names[rng.choice(4, p=shares / shares.sum())]

    def noun(self, pattern: Pattern, peak: float, rng: np.random.Generator) -> str:
        """``dense patchy opacities``: severity and pattern in words."""
        low, high = self.peak
        share = (peak - low) / max(high - low, 1e-6)
        strength = self.strengths[0] if share < 0.25 else self.strengths[1] if share > 0.75 else ""
        kind = {"focal": "focal ", "lobar": "lobar ", "patchy": "patchy ", "bilateral": "bilateral "}[pattern]
        phrase = self.phrases[rng.choice(len(self.phrases), p=_falling(len(self.phrases)))]
        plural = pattern in ("patchy", "bilateral") and phrase.endswith("opacity") and rng.random() < 0.7
        phrase = phrase[:-1] + "ies" if plural else phrase
        return f"{strength}{kind if rng.random() < 0.7 else ''}{phrase}"

    def patches(
        self, chest: Chest, side: str, pattern: Pattern, rough: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """(H, W) float32 in 0..1: one ellipse, or several small ones, with a ragged rim."""
        lung = chest.lungs[side]
        room = None if chest.within is None else chest.within & lung.mask
        count = {"focal": 1, "patchy": int(rng.integers(3, 7)), "bilateral": int(rng.integers(2, 5))}[pattern]
        small = 1.0 if count == 1 else 0.62
        rim = rng.uniform(*self.rim)
        _, down = self.band(rng, (1, 1.2, 1.8))
        found = np.zeros(lung.mask.shape, np.float32)
        y, x = _grid(lung.mask.shape)
        for _ in range(count):
            here = down if count == 1 or self.zone != "any" else np.clip(down + rng.normal(0, 0.16), 0.08, 0.93)
            row, column = _spot(lung, float(here), rng) if room is None else spot_within(room, rng)
            radius = small * rng.uniform(*self.size) * lung.width
            if room is not None:
                radius = min(radius, 0.75 * float(np.sqrt(room.sum() / np.pi)))
            tall, wide = radius * rng.uniform(0.75, 1.35), radius * rng.uniform(0.7, 1.1)
            turn = rng.uniform(-0.7, 0.7)
            a = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
            b = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
            reach = np.hypot(a / wide, b / tall) + rng.uniform(0.16, 0.3) * rough
            np.maximum(found, rng.uniform(0.75, 1) * sigmoid((1 - reach) / rim), out=found)
        return found

    def lobe(self, lung: Lung, side: str, rough: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(H, W) float32 in 0..1: a part of the lung up to a fissure, sharp there and fading away from it."""
        zone, _ = self.band(rng, (1.2, 0.8, 1.2))
        slope = rng.uniform(-0.12, 0.12)
        ragged = 0.03 * rough
        height = lung.down + slope * (lung.out - 0.5) + ragged  # 0 apex to 1 base, tilted
        sharp, fade = rng.uniform(0.008, 0.025), rng.uniform(0.06, 0.14)
        if zone == "upper":
            edge = rng.uniform(0.36, 0.47)
            shape = sigmoid((edge - height) / sharp)
            return shape * (1 - rng.uniform(0, 0.5) * sigmoid((edge - rng.uniform(0.15, 0.4) - height) / fade))
        if zone == "mid" and side == "right":
            shape = sigmoid((height - rng.uniform(0.42, 0.5)) / sharp)
            return shape * sigmoid((rng.uniform(0.75, 0.9) - height - 0.25 * lung.out) / fade)
        if zone == "mid":  # lingula: along the heart
            shape = sigmoid((height - rng.uniform(0.42, 0.55)) / fade) * sigmoid((0.95 - height) / fade)
            return shape * sigmoid((rng.uniform(0.4, 0.65) - lung.out) / (2 * fade))
        return sigmoid((height - rng.uniform(0.5, 0.68)) / fade) * rng.uniform(0.85, 1.0)


class Consolidation(Opacity):
    """A dense opacity that hides the vessels."""

    name: ClassVar[str] = "consolidation"
    phrases: ClassVar[tuple[str, ...]] = ("consolidation", "airspace consolidation")
    excludes: ClassVar[frozenset[str]] = frozenset({"opacity"})
    strengths: ClassVar[tuple[str, str]] = ("", "dense ")

    peak: tuple[float, float] = (0.65, 1.15)
    rim: tuple[float, float] = (0.1, 0.24)
    clouds: tuple[float, float] = (0.1, 0.28)
    shares: tuple[float, float, float, float] = Field((0.4, 0.35, 0.15, 0.1), description="Of the patterns.")


class GroundGlass(Opacity):
    """A hazy opacity through which vessels are seen."""

    name: ClassVar[str] = "ground_glass"
    phrases: ClassVar[tuple[str, ...]] = ("ground-glass opacity", "hazy opacity")
    excludes: ClassVar[frozenset[str]] = frozenset({"opacity"})
    strengths: ClassVar[tuple[str, str]] = ("subtle ", "")

    peak: tuple[float, float] = (0.2, 0.42)
    size: tuple[float, float] = (0.28, 0.6)
    rim: tuple[float, float] = (0.2, 0.45)
    clouds: tuple[float, float] = (0.12, 0.32)
    shares: tuple[float, float, float, float] = Field((0.25, 0.05, 0.35, 0.35), description="Of the patterns.")


def _falling(count: int) -> np.ndarray:
    """The first phrase half of the time or more, the others equally."""
    weights = np.array([1.5] + [1.0 / max(count - 1, 1)] * (count - 1))
    return np.asarray(weights / weights.sum())


def _grid(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None]


def _spot(lung: Lung, down: float, rng: np.random.Generator) -> tuple[float, float]:
    """A row and column within a lung at a height, not at its very border."""
    row = int(np.clip(lung.top + down * lung.height, lung.top, lung.bottom - 1))
    columns = np.flatnonzero(lung.mask[row])
    if not len(columns):
        columns = np.arange(lung.start, lung.stop)
    return float(row), float(columns[int(len(columns) * rng.uniform(0.15, 0.85))])
