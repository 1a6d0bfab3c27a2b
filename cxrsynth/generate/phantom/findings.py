"""What a prompt asks for, in the few words that the phantom understands."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cxrsynth.domain.lexicon import clauses, stands

ZONES = {
    "upper": ("upper", "apical", "apex"),
    "mid": ("mid", "middle", "perihilar"),
    "lower": ("lower", "basal", "base"),
}
LUNG = ("opacity", "opacities", "opacification", "pneumonia", "consolidation", "infiltrate", "infiltrates")
FLUID = ("effusion", "effusions")
HEART = ("cardiomegaly", "enlarged heart", "enlarged cardiac", "large heart", "heart is enlarged")
CHILD = ("child", "paediatric", "pediatric", "infant")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a finding lies; None leaves it to chance.

    Attributes:
        side: ``right`` or ``left``, the patient's.
        zone: ``upper``, ``mid`` or ``lower``.
    """

    side: str | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """A prompt, understood.

    Attributes:
        cardiomegaly: the heart is wider than half the chest.
        effusions: pleural fluid.
        opacities: dense patches in a lung.
        child: proportions of a child.
        ap: taken from the front, lying: larger heart, higher diaphragm, less contrast.
    """

    cardiomegaly: bool = False
    effusions: tuple[Place, ...] = ()
    opacities: tuple[Place, ...] = ()
    child: bool = False
    ap: bool = False


def read(prompt: str) -> Findings:
    """The findings that a prompt asserts; denied ones ("no effusion") and unknown words are ignored.

    A finding takes its side and zone from its own clause: clauses end at punctuation, "and" and "with".
    """
    cardiomegaly, effusions, opacities = False, [], []
    for asserted in _clauses(prompt.lower()):
        cardiomegaly |= _has(asserted, HEART)
        if _has(asserted, FLUID):
            effusions += [Place(side) for side in _sides(asserted)]
        if _has(asserted, LUNG):
            zone = next((zone for zone, words in ZONES.items() if _has(asserted, words)), None)
            opacities += [Place(side, zone) for side in _sides(asserted)]
    return Findings(
        cardiomegaly=cardiomegaly,
        effusions=tuple(effusions),
        opacities=tuple(opacities),
        child=_has(prompt.lower(), CHILD),
        ap=re.search(r"\b(AP|anteroposterior|supine|bedside)\b", prompt) is not None,
    )


def _clauses(prompt: str) -> list[str]:
    """What a prompt asserts, clause by clause; "no a and b" denies both, so only undenied clauses end at "and"."""
    found: list[str] = []
    for clause, denied in clauses(prompt):
        found += [clause] if denied else re.split(r"\band\b|\bwith\b", clause)
    return found


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(stands(word, text) for word in words)


def _sides(clause: str) -> list[str | None]:
    if _has(clause, ("bilateral", "both")):
        return ["right", "left"]
    named: list[str | None] = [side for side in ("right", "left") if _has(clause, (side, f"{side}-sided"))]
    return named or [None]
