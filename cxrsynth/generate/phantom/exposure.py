"""The image of a generated chest: densities that add up along the beam, then the tone of an image."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cxrsynth.generate.phantom.anatomy import Chest, Side, field
from cxrsynth.generate.phantom.findings import Findings


def expose(chest: Chest, findings: Findings, rng: np.random.Generator, noise: float) -> np.ndarray:
    """(H, W) float32, 0 black to 1 white.

    Args:
        noise: standard deviation of the grain.
    """
    shape = chest.heart.shape
    edge = 2.0 / min(shape)  # one pixel, in coordinates
    inside = _ramp(chest.body, 3 * edge)
    density = 0.50 + 0.08 * np.exp(-(((chest.x - chest.middle) / 0.55) ** 2)) + 0.05 * chest.y
    density = density + 0.03 * field(rng, shape, 5) + _midline(chest, rng)
    lungs, air = np.zeros(shape, np.float32), _air(chest, rng)
    for name, side in chest.sides.items():
        lung = _ramp(side.lung, 4 * edge)
        depth = np.clip(side.lung / 0.22, 0.0, 1.0)
        density -= air * lung * (0.22 + 0.15 * depth * (2.0 - depth) - _vessels(side, chest.y, rng, shape))
        density += 0.09 * _ramp(chest.clavicles[name], 3 * edge)
        lungs = np.maximum(lungs, lung)
    density += 0.06 * _ramp(chest.heart, 6 * edge) * (0.6 + np.clip(chest.heart / 0.3, 0.0, 1.0))
    density += _ribs(chest, findings.child, rng) * (0.35 + 0.65 * lungs * air)
    density -= _stomach(chest, rng) * (1.0 - lungs)
    density = ndimage.gaussian_filter(density, 0.0022 * min(shape))
    grain = 0.7 * rng.standard_normal(shape, np.float32) + 0.5 * field(rng, shape, shape[1] // 3)
    image = _tone(density + noise * grain, 0.82 if findings.ap else 1.0) * inside
    return np.clip(image + 0.3 * noise * grain, 0.0, 1.0).astype(np.float32)


def _air(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """How much air the lungs hold: 1 healthy, 0 none; fluid and patches drive it out."""
    air = np.ones_like(chest.heart)
    for patch in chest.opacities:
        mottled = 0.72 + 0.10 * field(rng, patch.shape, 24)
        air = air * (1.0 - mottled * _ramp(patch + 0.01, 0.09))
    for fluid in chest.effusions:
        air = air * (1.0 - 0.97 * _ramp(fluid + 0.01, 0.035))
    return air


def _ramp(distance: np.ndarray, soft: float) -> np.ndarray:
    """Signed distance -> 0 outside, 1 inside, over a width of ``soft``; smooth at both ends."""
    part = np.clip(distance / soft + 0.5, 0.0, 1.0)
    return part * part * (3.0 - 2.0 * part)


def _midline(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Great vessels, spine with its discs, trachea."""
    x, y = chest.x - chest.middle, chest.y
    vessels = 0.12 * np.exp(-((x / 0.15) ** 4)) * (1.0 - 0.75 * _ramp(y - 0.45, 0.5)) * _ramp(y + 0.75, 0.5)
    discs = 0.75 + 0.25 * np.cos((y / float(rng.uniform(0.13, 0.16)) + float(rng.uniform(0.0, 1.0))) * 2 * np.pi)
    spine = 0.08 * np.exp(-((x / 0.085) ** 4)) * discs
    trachea = 0.13 * np.exp(-(((x + 0.012) / 0.042) ** 4)) * _ramp(-0.22 - y, 0.12)
    return vessels + spine - trachea


def _vessels(side: Side, y: np.ndarray, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Hilum, and vessels that fan out from it and fade."""
    du, dy = side.u - 0.17, y + 0.06
    far = np.hypot(du, dy)
    hilum = 0.16 * np.exp(-(((side.u - 0.16) / 0.07) ** 2) - ((dy + 0.01) / 0.15) ** 2)
    turn = np.arctan2(dy, du) * 5.5 + 0.9 * field(rng, shape, 6)
    fan = np.clip(np.cos(turn * 2.0) - 0.35, 0.0, None) + np.clip(np.cos(turn * 3.7 + 1.0) - 0.55, 0.0, None)
    return hilum + (0.12 * fan + 0.02 * field(rng, shape, 48)) * np.exp(-far / 0.30)


def _ribs(chest: Chest, child: bool, rng: np.random.Generator) -> np.ndarray:
    """All ribs of both sides at once, as bands at equal phases of a curve: posterior ones fall outward."""
    half = np.abs(chest.x - chest.middle)
    wide, apex = chest.sides["right"].wide, chest.sides["right"].apex
    part = np.clip(half / wide, 0.0, 1.1)
    slope = float(rng.uniform(0.45, 0.7) if child else rng.uniform(0.75, 1.15))
    spacing, start = float(rng.uniform(0.150, 0.185)), float(rng.uniform(0.0, 1.0))
    behind = chest.y - slope * (0.30 * part**2 - 0.10 * np.sin(part * np.pi)) + start
    before = chest.y + slope * (0.34 * part - 0.30 * part**3) + 0.4 * start
    cage = _ramp(wide + 0.03 - half, 0.05) * _ramp(half - 0.06, 0.08) * _ramp(chest.y - apex - 0.02, 0.15)
    cage = cage * _ramp(0.75 - chest.y, 0.3)
    outer = cage * _ramp(half - 0.35 * wide, 0.25)
    return 0.085 * _bands(behind, spacing, 0.36) * cage + 0.04 * _bands(before, 1.13 * spacing, 0.42) * outer


def _bands(curve: np.ndarray, spacing: float, share: float) -> np.ndarray:
    """0 between and 1 on bands; their rims are denser than their middles, as bone is."""
    phase = np.abs((curve / spacing) % 1.0 - 0.5) * 2.0  # 0 in the middle of a band, 1 between two
    band = np.clip((share - phase) / 0.12 + 0.5, 0.0, 1.0)
    return band * (0.7 + 0.6 * (phase / share) ** 2)


def _stomach(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """The air bubble under the left dome."""
    side = chest.sides["left"]
    du, dy = side.u - float(rng.uniform(0.30, 0.42)), chest.y - side.dome - float(rng.uniform(0.13, 0.18))
    return 0.14 * np.exp(-(((du / 0.15) ** 2 + (dy / 0.07) ** 2) ** 2)) * float(rng.uniform(0.2, 1.0))


def _tone(density: np.ndarray, contrast: float) -> np.ndarray:
    """Densities -> gray: black where nothing stopped the beam, the shoulders of an image's curve, little pure white."""
    gray = np.clip((density - 0.08) / 0.72, 0.0, None)
    gray = gray**1.25 / (1.0 + 0.12 * gray**3)
    return np.clip(0.5 + contrast * (gray - 0.5), 0.0, 1.0).astype(np.float32)
