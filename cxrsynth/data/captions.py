"""Captions that teach: the same image is described in many ways, so that each word comes to mean something on its own.

Parts (projection, person, findings, anatomy) are said in other words, left out, and put in another order. Nothing is
made up: a caption only says what the image's row says.
"""

from __future__ import annotations

import re

import numpy as np

from cxrsynth.data.config import CaptionConfig
from cxrsynth.data.findings import FINDINGS
from cxrsynth.records import Row

OPENERS = ("Frontal chest X-ray", "Chest X-ray", "Frontal chest radiograph", "Chest radiograph")
NORMAL = ("no abnormality", "no finding", "normal", "clear lungs")
NORMAL_FINDINGS = {"normal", "no finding"}
# Every frontal image shows these; naming them ties the words to places (the maps are read with the same phrases).
ANATOMY = ("right lung", "left lung", "heart")
AGE_GROUPS = ((3, "infant or toddler"), (13, "child"), (18, "teenager"), (40, "young adult"), (65, "middle-aged adult"))
OLDEST = "elderly adult"
# What captions of simulated findings say of them, beside their names.
FINDING_WORDS = (
    "right upper zone", "left lower zone", "mid zone", "lung field", "both lungs", "bilateral", "apical", "faint",
    "subtle", "dense", "hazy", "focal", "lobar", "patchy", "small", "moderate", "large", "massive", "mild", "severe",
    "multiple",
)  # fmt: skip
SYNONYMS = {
    "cardiomegaly": ("cardiomegaly", "enlarged heart", "large heart"),
    "normal heart size": ("normal heart size", "heart of normal size", "normal heart"),
    "effusion": ("effusion", "pleural effusion"),
    "edema": ("edema", "pulmonary edema"),
    "upper field": ("upper field", "upper zone", "upper lung field"),
    "lower field": ("lower field", "lower zone", "lower lung field"),
    "middle field": ("middle field", "middle zone", "mid zone"),
}


def caption(row: Row, rng: np.random.Generator, config: CaptionConfig) -> str:
    """One of the many captions of an image."""
    if rng.random() < config.verbatim:
        return str(row["prompt"])
    findings = describe_findings(row, rng)
    parts = [text for text in (describe_view(row), describe_person(row, rng)) if text]
    parts = [text for text in parts if rng.random() >= config.drop]
    rng.shuffle(parts)
    if rng.random() < config.list_style:
        last = [findings] if findings and rng.random() >= config.drop else []
        organs = list(rng.permutation(ANATOMY)) if rng.random() < config.anatomy else []
        return ", ".join([OPENERS[rng.integers(len(OPENERS))], *parts, *last, *organs])
    sentence = ", ".join([OPENERS[rng.integers(len(OPENERS))], *parts]) + "."
    said = [sentence]
    if findings and rng.random() >= config.drop:
        said.append(f"Findings: {findings}." if rng.random() < 0.5 else f"{findings[0].upper()}{findings[1:]}.")
    if rng.random() < config.anatomy:
        organs = list(ANATOMY)
        rng.shuffle(organs)
        said.append(", ".join(organs).capitalize() + ".")
    if rng.random() < 0.3:
        rng.shuffle(said)
    return " ".join(said)


def describe_view(row: Row) -> str:
    """``PA view`` or ``AP view``."""
    return f"{row['view']} view" if row.get("view") else ""


def describe_person(row: Row, rng: np.random.Generator) -> str:
    """Age and sex as far as they are known: ``37-year-old man``, ``male, adult``, ``young adult, woman``."""
    age, sex = row.get("age"), row.get("sex", "")
    child = row.get("population") == "pediatric"
    noun = {"M": "boy" if child else "man", "F": "girl" if child else "woman"}.get(sex, "")
    if rng.random() < 0.35:
        group = "child" if child else "adult"
        word = {"M": "male", "F": "female"}.get(sex, "")
        if not word:
            return group
        return f"{word}, {group}" if rng.random() < 0.5 else f"{group} {word}"
    if age is None:
        return noun or ("young child" if child else "adult")
    if rng.random() < 0.5:
        return f"{int(age)}-year-old {noun or ('child' if child else 'adult')}"
    group = next((name for limit, name in AGE_GROUPS if age < limit), OLDEST)
    return f"{group}, {noun}" if noun else group


def describe_findings(row: Row, rng: np.random.Generator) -> str:
    """The findings of the image's own caption in other words and another order; empty where nothing is known."""
    _, marker, text = str(row["prompt"]).partition("Findings:")
    if not marker:
        return ""
    text = text.strip().rstrip(".")
    if row.get("findings", "").lower() in NORMAL_FINDINGS:
        return NORMAL[rng.integers(len(NORMAL))]
    items = [item.strip() for item in text.split(",") if item.strip()]
    if rng.random() < 0.5:  # a measured ratio is no word a person would type
        items = [item for item in items if not re.match(r"cardiothoracic ratio", item)] or items
    rng.shuffle(items)
    said = ", ".join(items)
    for plain, words in SYNONYMS.items():
        if plain in said:
            said = said.replace(plain, words[rng.integers(len(words))])
    return said


def corpus(rows: list[Row], seed: int = 0, repeats: int = 3) -> list[str]:
    """Captions of all images, several times, and words for simulated findings, for building the vocabulary."""
    rng = np.random.default_rng(seed)
    config = CaptionConfig()
    words = [
        *ANATOMY,
        *NORMAL,
        *(word for group in SYNONYMS.values() for word in group),
        *(n for _, n in AGE_GROUPS),
        OLDEST,
        *(phrase for kind in FINDINGS.values() for phrase in kind.phrases),
        *FINDING_WORDS,
    ]
    return [caption(row, rng, config) for row in rows for _ in range(repeats)] + [w for w in words for _ in range(20)]
