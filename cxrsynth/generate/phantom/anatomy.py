"""The shapes of a generated chest: smooth signed distances, from which both the image and the exact masks are made.

Coordinates run from -1 to 1 over the image, x to the right, y down. A positive distance is inside. ``u`` is the
distance from the midline, positive on the side that is looked at, so that both lungs share their formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cxrsynth.generate.phantom.findings import Findings, Place


@dataclass(frozen=True, slots=True)
class Side:
    """One half of the chest.

    Attributes:
        u: (1, W) distance from the midline.
        lung: (H, W) signed distance of the pleural space, heart and mediastinum left out.
        dome: y of the top of the diaphragm.
        wide: u of the outer border where the chest is widest.
        apex: y of the top of the lung.
    """

    u: np.ndarray
    lung: np.ndarray
    dome: float
    wide: float
    apex: float


@dataclass(frozen=True, slots=True)
class Chest:
    """All shapes of one chest, each (H, W) float32 signed distances unless stated otherwise.

    Attributes:
        x: (1, W) coordinates.
        y: (H, 1) coordinates.
        middle: x of the midline.
        body: outline of trunk, shoulders and neck.
        sides: ``right`` and ``left``.
        heart: its outline.
        effusions: one per effusion, inside the pleural space.
        opacities: one per opacity, inside the pleural space.
        clavicles: ``right`` and ``left``.
    """

    x: np.ndarray
    y: np.ndarray
    middle: float
    body: np.ndarray
    sides: dict[str, Side]
    heart: np.ndarray
    effusions: list[np.ndarray]
    opacities: list[np.ndarray]
    clavicles: dict[str, np.ndarray]


def build(findings: Findings, rng: np.random.Generator, height: int, width: int) -> Chest:
    """A chest with these findings; every number that is not given by them is drawn from ``rng``."""
    zoom, drop = float(rng.uniform(0.93, 1.10)), float(rng.uniform(-0.06, 0.05))  # no two images are set up alike
    x = zoom * ((np.arange(width, dtype=np.float32) + 0.5) * (2.0 / width) - 1.0)[None]
    y = zoom * ((np.arange(height, dtype=np.float32) + 0.5) * (2.0 / height) - 1.0)[:, None] + drop
    middle = float(rng.normal(0.0, 0.03))
    wide = float(rng.uniform(0.70, 0.80)) * (0.9 if findings.child else 1.0)
    apex = float(rng.uniform(-0.80, -0.72)) + (0.08 if findings.child else 0.0)
    dome = float(rng.uniform(0.36, 0.50)) - (0.10 if findings.child else 0.0) - (0.08 if findings.ap else 0.0)
    hollow = float(rng.uniform(0.115, 0.145)) * (1.15 if findings.child or findings.ap else 1.0)
    lift = 0.06 if findings.ap else 0.0  # the clavicles stand higher in a lying patient
    ratio = float(rng.uniform(0.54, 0.63) if findings.cardiomegaly else rng.uniform(0.42, 0.47))
    heart = _heart(x, y, middle, ratio * wide, dome, float(rng.uniform(0.45, 0.65)))
    skew = float(rng.uniform(-0.025, 0.025))  # a slightly rotated patient: one side looks wider
    sink = float(rng.uniform(0.02, 0.08))  # the liver holds the right dome up
    sides = {
        "right": _side(-(x - middle), y, heart, wide * (1.0 + skew), apex, dome, hollow, 0.0),
        "left": _side(x - middle, y, heart, wide * (1.0 - skew), apex + 0.01, dome + sink, hollow, 0.05),
    }
    body = _body(x - middle, y, wide + float(rng.uniform(0.13, 0.24)), apex)
    return Chest(
        x=x,
        y=y,
        middle=middle,
        body=body,
        sides=sides,
        heart=heart,
        effusions=[_effusion(sides[_side_of(place, rng)], y, rng) for place in findings.effusions],
        opacities=[_opacity(sides[_side_of(place, rng)], y, place, rng) for place in findings.opacities],
        clavicles={name: np.minimum(_clavicle(side, y, lift), body - 0.02) for name, side in sides.items()},
    )


def _side_of(place: Place, rng: np.random.Generator) -> str:
    return place.side or str(rng.choice(["right", "left"]))


def _side(
    u: np.ndarray,
    y: np.ndarray,
    heart: np.ndarray,
    wide: float,
    apex: float,
    dome: float,
    hollow: float,
    knob: float,
) -> Side:
    """The pleural space of one side: between chest wall, mediastinum, heart and diaphragm.

    Args:
        hollow: half-width of the mediastinum.
        knob: how far the aortic knob bulges into the lung.
    """
    crest = 0.30  # u of the lung's tip
    angle = dome + 0.30  # y of the costophrenic angle
    t = np.clip((y - apex) / (angle - apex), 0.0, 1.0)
    rise = (1.0 - (1.0 - np.clip(t / 0.85, 0.0, 1.0)) ** 2.5) ** (1 / 1.9)
    outer = crest + (wide - crest) * rise * (1.0 - 0.06 * np.clip((t - 0.85) / 0.15, 0.0, 1.0) ** 2)
    tip = (1.0 - (1.0 - np.clip(t / 0.22, 0.0, 1.0)) ** 2) ** 0.5
    inner = crest - (crest - hollow) * tip + knob * np.exp(-(((y + 0.28) / 0.09) ** 2))
    inner = inner + 0.035 * np.exp(-(((y + 0.05) / 0.16) ** 2)) - 0.03 * np.clip((y - dome + 0.3) / 0.3, 0.0, 1.0)
    peak = 0.42 * wide  # u of the top of the dome
    floor = dome + np.where(u > peak, 0.30 * np.abs((u - peak) / (wide - peak)) ** 2.4, 0.10 * ((u - peak) / peak) ** 2)
    walls = np.minimum(_across(outer, y) * (outer - u), _across(inner, y) * (u - inner))  # (H, W)
    lung = np.minimum(np.minimum(walls, _across(floor.T, u.T).T * (floor - y)), y - apex)
    return Side(u, np.minimum(lung, -heart - 0.004), dome, wide, apex)


def _across(curve: np.ndarray, along: np.ndarray) -> np.ndarray:
    """(N, 1) curve -> (N, 1) factor that turns a distance along the axis into one across the curve."""
    slope = np.gradient(curve[:, 0], along[:, 0])
    return (1.0 / np.sqrt(1.0 + np.minimum(np.abs(slope), 50.0) ** 2)).astype(np.float32)[:, None]


def _heart(x: np.ndarray, y: np.ndarray, middle: float, half: float, dome: float, tilt: float) -> np.ndarray:
    """A tilted oval on the diaphragm, two thirds of it left of the midline. ``half``: half of its width."""
    slim = 0.74
    cos, sin = math.cos(tilt), math.sin(tilt)  # plain floats: a numpy scalar would turn the planes into float64
    long = half / math.hypot(cos, slim * sin)
    tall = long * math.hypot(sin, slim * cos)
    dx, dy = x - middle - 0.32 * half, y - (dome + 0.10 - 0.86 * tall)
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    oval = (1.0 - np.hypot(along / long, across / (slim * long))) * (slim * long)
    return np.minimum(oval, dome + 0.11 - y)


def _body(x: np.ndarray, y: np.ndarray, trunk: float, apex: float) -> np.ndarray:
    """Neck, sloping shoulders, trunk. ``trunk``: its half-width at the middle of the image."""
    fall = np.clip((y + 1.0) / (apex + 1.12), 0.0, None)
    shoulders = 0.26 + 0.75 * np.clip(fall, 0.0, 1.0) ** 1.6 + 0.12 * np.clip(fall - 1.0, 0.0, 1.0)
    part = np.clip((y + 0.45) / 1.0, 0.0, 1.0)
    arm = part * part * (3.0 - 2.0 * part)  # the arms leave the image below the arm-pits
    half = shoulders * (1.0 - arm) + np.minimum(shoulders, trunk + 0.05 * y) * arm
    return (_across(half, y) * (half - np.abs(x))).astype(np.float32)


def _effusion(side: Side, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fluid below a meniscus that climbs the chest wall."""
    level = side.dome - float(rng.uniform(-0.06, 0.22))
    climb = float(rng.uniform(0.12, 0.25))
    part = np.clip(side.u / side.wide, 0.0, 1.0)
    meniscus = level - climb * part**3 - 0.04 * (1.0 - part) ** 4
    return np.minimum(side.lung, y - meniscus)


def _opacity(side: Side, y: np.ndarray, place: Place, rng: np.random.Generator) -> np.ndarray:
    """A patch with a ragged border somewhere in the zone."""
    bounds = {"upper": (0.24, 0.34), "mid": (0.46, 0.56), "lower": (0.70, 0.82)}
    zone = place.zone or str(rng.choice(list(bounds)))
    row = side.apex + float(rng.uniform(*bounds[zone])) * (side.dome - side.apex)
    column = float(rng.uniform(0.52, 0.66)) * side.wide
    radius_u, radius_y = (float(radius) for radius in rng.uniform(0.11, 0.19, 2))
    reach = np.hypot((side.u - column) / radius_u, (y - row) / radius_y)
    ragged = field(rng, reach.shape, 12) * 0.2
    patch = (1.0 - reach + ragged) * min(radius_u, radius_y)
    return np.minimum(side.lung, patch).astype(np.float32)


def _clavicle(side: Side, y: np.ndarray, lift: float) -> np.ndarray:
    """A slightly S-shaped bar from the sternum to the shoulder."""
    part = (side.u - 0.07) / 0.78
    curve = side.apex + 0.26 - lift - 0.17 * part + 0.035 * np.sin(part * 2 * np.pi)
    bar = (0.030 - 0.008 * np.sin(np.clip(part, 0, 1) * np.pi)) - np.abs(y - curve)
    return np.minimum(bar, np.minimum(side.u - 0.07, 0.85 - side.u)).astype(np.float32)


def field(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """(H, W) float32 smooth noise of about unit deviation, ``cells`` bumps over the width."""
    height, width = shape
    coarse = rng.standard_normal((max(2, round(cells * height / width)), cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
