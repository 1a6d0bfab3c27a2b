"""A simulated finding: a frozen config that puts itself into an image and says what it put where."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from cxrsynth.data.findings.chest import SIDES, Chest
from cxrsynth.errors import UsageError

Side = Literal["any", "right", "left", "both"]
Zone = Literal["any", "upper", "mid", "lower"]
ZONES = ("upper", "mid", "lower")
LEAST_MASK = 12  # pixels at a width of 256: less is no finding
LEAST_WATER = 0.35  # contrast of heart to lung, as attenuation: with less, every finding would stick out
LEAST_SIDE = 0.05  # of a finding's area: a lung with less is not named
SHARE = 0.22  # of a finding's area within a lung: a third with less is not named


class CannotCarryError(UsageError):
    """This image cannot carry the finding: it has no such lung, or has the finding already.

    Args:
        finding: its name.
        why: ``no right lung``.
    """

    def __init__(self, finding: str, why: str) -> None:
        super().__init__(f"no {finding.replace('_', ' ')} can be put in: {why}", "choose another image, side or zone")
        self.finding, self.why = finding, why

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return type(self), (self.finding, self.why)


@dataclass(frozen=True, slots=True)
class Put:
    """An image with a finding in it.

    Attributes:
        image: (H, W) float32 in 0..1.
        mask: (H, W) bool, where the finding is.
        words: a clause for a caption, ``moderate left pleural effusion``.
        facts: what was drawn, in plain types: ``sides``, ``zones``, ``severity`` and more.
        labels: (H, W) uint8 anatomy where the finding changed it, or None.
    """

    image: np.ndarray
    mask: np.ndarray
    words: str
    facts: dict[str, Any] = field(default_factory=dict)
    labels: np.ndarray | None = None


class Finding(BaseModel, ABC):
    """What all findings have in common.

    Attributes:
        side: where it may lie; ``both`` asks for both lungs at once.
        zone: third of the lung's height that holds its middle, for findings that lie in the lung.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    # What captions call it; the first is the phrase its attention map is read with.
    phrases: ClassVar[tuple[str, ...]]
    # Words of a row that mean the image has it already.
    labels: ClassVar[tuple[str, ...]]
    excludes: ClassVar[frozenset[str]] = frozenset()
    sided: ClassVar[bool] = True  # whether a side can be asked for
    zoned: ClassVar[bool] = True  # whether a zone can be asked for

    side: Side = "any"
    zone: Zone = "any"

    def graded(self, severity: float) -> Self:
        """The same finding at a severity, from 0, the least there is, to 1, the most; here it has one only."""
        return self

    def why_not(self, chest: Chest) -> str:
        """Why this chest cannot carry it; empty where it can."""
        wanted = SIDES if self.side in ("any", "both") else (self.side,)
        missing = [side for side in wanted if side not in chest.lungs]
        if missing and (self.side != "any" or len(missing) == len(SIDES)):
            return f"there is no {missing[0]} lung"
        if chest.water < LEAST_WATER:
            return "lungs and heart are about equally bright"
        return ""

    @abstractmethod
    def __call__(self, image: np.ndarray, chest: Chest, rng: np.random.Generator) -> Put:
        """Put it in.

        Args:
            image: (H, W) float32 in 0..1, bright is dense.
            chest: its anatomy.
            rng: decides everything that varies.

        Raises:
            CannotCarryError: `why_not`, or no room was found.
        """

    def check(self, chest: Chest) -> None:
        """Raise `CannotCarryError` where this chest cannot carry it."""
        why = self.why_not(chest)
        if why:
            raise CannotCarryError(self.name, why)

    def sides(self, chest: Chest, rng: np.random.Generator, both: float = 0.0) -> list[str]:
        """The lungs it goes into: one, or both with probability ``both`` where nothing is asked for."""
        there = [side for side in SIDES if side in chest.lungs]
        if self.side == "both":
            return there
        if self.side != "any":
            return [self.side]
        if len(there) == len(SIDES) and rng.random() < both:
            return there
        return [there[rng.integers(len(there))]]

    def band(self, rng: np.random.Generator, shares: tuple[float, float, float] = (1, 1, 1)) -> tuple[str, float]:
        """A zone and a height within it: 0 apex to 1 base.

        Args:
            shares: how often the upper, mid and lower zone are chosen where none is asked for.
        """
        weights = np.array(shares, float) / sum(shares)
        number = ZONES.index(self.zone) if self.zone != "any" else int(rng.choice(3, p=weights))
        return ZONES[number], (number + rng.uniform(0.15, 0.85)) / 3


def part_of(span: tuple[float, float], severity: float, width: float = 0.15) -> tuple[float, float]:
    """The part of a range at a severity, 0 its lower end to 1 its upper one; ``width`` of it is left to chance."""
    low, high = span
    start = low + (high - low) * severity * (1 - width)
    return start, start + (high - low) * width


def zones_of(mask: np.ndarray, chest: Chest) -> dict[str, list[str]]:
    """Side -> the thirds of that lung that hold a good part of a mask, from the top; sides without any are left out."""
    found: dict[str, list[str]] = {}
    total = max(int(mask.sum()), 1)
    for side, lung in chest.lungs.items():
        here = mask & lung.mask
        if here.sum() < LEAST_SIDE * total:
            continue
        third = np.clip((lung.down[:, 0] * 3).astype(int), 0, 2)
        per_row = here.sum(axis=1)
        shares = [float(per_row[third == i].sum()) / max(float(per_row.sum()), 1.0) for i in range(3)]
        found[side] = [zone for zone, share in zip(ZONES, shares, strict=True) if share >= SHARE]
    return found


def place_words(found: dict[str, list[str]], rng: np.random.Generator) -> str:
    """``in the right lower zone``, ``in the left mid and lower zones``, ``in both lungs``; the words vary."""
    noun = ("zone", "field", "lung field")[rng.choice(3, p=(0.6, 0.25, 0.15))]
    parts = []
    for side, zones in found.items():
        if len(zones) == len(ZONES) or not zones:
            parts.append(f"the {side} lung")
        elif len(zones) == 1:
            parts.append(f"the {side} {zones[0]} {noun}")
        else:
            parts.append(f"the {side} {' and '.join(zones)} {noun}s")
    if len(found) == 2:
        right, left = found.values()
        if len(right) == len(left) == len(ZONES):
            return "in both lungs"
        if right == left:
            return f"in both {' and '.join(right)} {noun}s" if right else "in both lungs"
    return "in " + " and ".join(parts)


def spot_within(room: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """A row and column in (H, W) bool, not at its very border.

    Raises:
        CannotCarryError: there is no room.
    """
    if not room.any():
        raise CannotCarryError("finding", "the region lies outside the lungs")
    depth = ndimage.distance_transform_edt(np.pad(room, 1))[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= 0.4 * depth.max())
    which = int(rng.integers(len(rows)))
    return float(rows[which]), float(columns[which])


def large_enough(mask: np.ndarray, chest: Chest, name: str) -> None:
    """Raise `CannotCarryError` where next to nothing of a finding is in the lungs."""
    if mask.sum() < LEAST_MASK * chest.unit**2:
        raise CannotCarryError(name, "there is no room for it in the lungs")
