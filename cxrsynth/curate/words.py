"""Reasons and scores in words: what people read beside the stable names that programs filter by."""

from __future__ import annotations

# What stands for a class in a name is ``*`` here and ``{}`` in the words. Checks of other packages keep their names.
REASONS = {
    "finite.nan": "not a number somewhere",
    "finite.constant": "one gray level only",
    "finite.contrast": "too little contrast",
    "duplicate.shard": "nearly a copy of another image",
    "laterality.lungs": "lungs on the wrong sides, or too close",
    "laterality.heart": "heart not between the lungs",
    "border.sides": "lungs cut off by the border",
    "present.*": "{} missing",
    "area.*.small": "{} too small",
    "area.*.large": "{} too large",
    "stability.*": "{} hangs on the exact threshold",
    "agreement.*": "{} not where it was imposed",
}
SCORES = {
    "contrast": "contrast",
    "duplicate": "likeness to another image",
    "laterality.lungs": "distance of the lungs",
    "laterality.heart": "place of the heart between the lungs",
    "border.sides": "sides that the lungs touch",
    "presence.*": "how surely the {} is there",
    "stability.*": "{}: mask at a higher and a lower threshold",
    "uncertainty.*": "{}: undecided pixels",
    "agreement.*": "{}: where imposed and where seen",
    "area.*": "{}: share of the image",
}


def reason(name: str) -> str:
    """``area.left_lung.small`` -> ``left lung too small``; a reason that nobody knows stays as it is."""
    return _said(name, REASONS)


def score(name: str) -> str:
    """``presence.heart`` -> ``how surely the heart is there``; a score that nobody knows stays as it is."""
    return _said(name, SCORES)


def full(name: str) -> str:
    """A reason in words with its name behind, for the terminal."""
    words = reason(name)
    return name if words == name else f"{words} ({name})"


def _said(name: str, known: dict[str, str]) -> str:
    if name in known:
        return known[name]
    first, _, rest = name.partition(".")
    for form, words in known.items():
        head, star, tail = form.partition("*")
        if star and head == f"{first}." and rest.endswith(tail) and rest.removesuffix(tail):
            return words.format(rest.removesuffix(tail).replace("_", " "))
    return name
