"""What is said about an image, as 1, 0 or unknown: projection, age group, sex, and findings by name.

An ingested image says it in columns of its row, a drawn one in its prompt. Silence is not a "no": a finding counts as
absent only where somebody looked for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from cxrsynth.records import Row

Negatives = Literal["source", "normal"]
# Label -> (row key, value of the one kind, of the other, words of the one kind in a prompt, of the other).
TRAITS: dict[str, tuple[str, str, str, tuple[str, ...], tuple[str, ...]]] = {
    "AP": ("view", "AP", "PA", ("AP view", "AP"), ("PA view", "PA")),
    "child": (
        "population", "pediatric", "adult", ("child", "boy", "girl", "infant", "toddler"),
        ("adult", "man", "woman", "elderly"),
    ),
    "woman": ("sex", "F", "M", ("woman", "girl", "female"), ("man", "boy", "male")),
}  # fmt: skip
# The findings of the open collections; any other word can be asked for by name.
FINDINGS = (
    "pneumonia", "tuberculosis", "covid", "cardiomegaly", "effusion", "infiltration", "edema", "atelectasis",
    "consolidation", "opacity", "pneumothorax", "nodule", "mass", "emphysema", "fibrosis", "hernia",
    "pleural thickening",
)  # fmt: skip
SYNONYMS = {
    "covid": ("COVID-19", "covid"),
    "cardiomegaly": ("cardiomegaly", "enlarged heart", "large heart"),
    "tuberculosis": ("tuberculosis", "PTB", "TB"),
    "effusion": ("effusion", "effusions"),
    "infiltration": ("infiltration", "infiltrations"),
    "consolidation": ("consolidation", "consolidations"),
    "opacity": ("opacity", "opacities"),
    "nodule": ("nodule", "nodules"),
    "mass": ("mass", "masses"),
}
DENIED = {"cardiomegaly": ("normal heart size", "heart of normal size", "normal heart")}
NORMAL = ("no abnormality", "no finding", "normal", "clear lungs")
# In prompts, and in the captions of ingested images, what is seen follows this word.
MARKER = "Findings:"


def trait(row: Row, label: str) -> float:
    """1, 0 or NaN for one of `TRAITS`."""
    key, one, other, ours, theirs = TRAITS[label]
    value = str(row.get(key) or "")
    if value:
        return 1.0 if value == one else 0.0 if value.startswith(other) else float("nan")
    if key in row:  # a real image whose column is empty
        return float("nan")
    said = [any(affirmed(word, row["prompt"]) for word in words) for words in (ours, theirs)]
    if said[0] == said[1]:
        # "a 5-year-old boy" says it; "a 5-year-old" alone does so too.
        age = re.search(r"(\d+)-year-old", row["prompt"]) if label == "child" and not said[0] else None
        return float(int(age[1]) < 18) if age else float("nan")
    return float(said[0])


def words_on_findings(row: Row) -> str:
    """The words of an image that may name findings."""
    if row.get("findings") is not None:
        return str(row["findings"])
    # The collections that name the virus do not call it pneumonia; neither do its prompts then.
    prompt = str(row.get("prompt", "")).replace("COVID-19 pneumonia", "COVID-19")
    return prompt.partition(MARKER)[2] if MARKER in prompt else prompt


def found(text: str, label: str) -> bool:
    """Whether a finding is affirmed: as a whole word that no denial reaches."""
    return any(affirmed(word, text) for word in SYNONYMS.get(label, (label,)))


def is_normal(text: str) -> bool:
    """Whether an image is said to show nothing abnormal at all."""
    return text.strip().strip(".").lower() in NORMAL or any(stands(word, text) for word in NORMAL[:2])


def knowledge(rows: Iterable[Row], labels: Sequence[str]) -> dict[str, set[str]]:
    """Source -> the findings that somebody looked for there: those that any of its images has."""
    known: dict[str, set[str]] = {}
    for row in rows:
        text = words_on_findings(row)
        seen = {label for label in labels if label not in TRAITS and found(text, label)}
        known.setdefault(str(row.get("source", "")), set()).update(seen)
    return known


def truth(row: Row, labels: Sequence[str], known: dict[str, set[str]], negatives: Negatives = "normal") -> np.ndarray:
    """(K,) float32: 1 present, 0 absent, NaN unknown.

    Args:
        known: source -> findings looked for there, as `knowledge` gives them.
        negatives: ``source``: a finding is absent only on images of sources that looked for it; ``normal``: also on
            images that are said to be normal, whatever their source.
    """
    text = words_on_findings(row)
    asked = known.get(str(row.get("source", "")), set())
    normal = is_normal(text)
    # A caption that has a place for findings, or names one, speaks about them; a bare "chest X-ray" does not.
    speaks = normal or (bool(text.strip()) and (_has_place(row) or any(found(text, label) for label in asked)))

    def value(label: str) -> float:
        if label in TRAITS:
            return trait(row, label)
        if found(text, label):
            return 1.0
        denied = any(affirmed(word, text) for word in DENIED.get(label, ()))
        return 0.0 if denied or (normal and negatives == "normal") or (speaks and label in asked) else float("nan")

    return np.array([value(label) for label in labels], np.float32)


def _has_place(row: Row) -> bool:
    return row.get("findings") is not None or MARKER in str(row.get("prompt", ""))


# What denies a finding, up to the end of its clause; "no change of an effusion" denies none.
DENIAL = re.compile(
    r"\b(no(?! (?:\w+ )?(?:change|increase|decrease)\b)|not|without|absent|absence of|free of|negative for|denies)\b",
    re.IGNORECASE,
)
# A listed item is a bare name; "opacity in the left or right lung" is a clause of its own.
BARE = re.compile(r"\s*(?:(?:or|nor)\s+)?(?:[\w-]+\s*){1,4}(?:\s(?:or|nor)\s(?:[\w-]+\s*){1,4})?")
TIED = re.compile(r"\b(in|at|on|of|over|with|within|above|below|near)\b", re.IGNORECASE)
CLOSING = re.compile(r"(?:^|\s)(?:or|nor)\s", re.IGNORECASE)


def clauses(text: str) -> list[tuple[str, bool]]:
    """What a text asserts, clause by clause: (words, whether the rest of the clause was denied and is left out).

    A denial holds to the end of its clause: "no effusion or opacity" denies both. Beyond a comma it holds where the
    list is closed by an "or": "no effusion, opacity or nodule" denies all three, "no effusion, opacity" only the first.
    """
    found: list[tuple[str, bool]] = []
    for sentence in re.split(r"[.;:\n]|\bbut\b|\bhowever\b", text, flags=re.IGNORECASE):
        parts = sentence.split(",")
        place = 0
        while place < len(parts):
            denial = DENIAL.search(parts[place])
            found.append((parts[place][: denial.start()] if denial else parts[place], denial is not None))
            place = _end_of_list(parts, place) + 1 if denial else place + 1
    return found


def _end_of_list(parts: Sequence[str], start: int) -> int:
    """The last part of the list that begins with the denial in ``parts[start]``."""
    for place in range(start + 1, len(parts)):
        part = parts[place]
        if not BARE.fullmatch(part) or TIED.search(part) or DENIAL.search(part):
            return start
        if CLOSING.search(part):
            return place
    return start


def affirmed(word: str, text: str) -> bool:
    """Whether a text asserts a word, as a whole word: "no effusion or opacity" asserts neither."""
    return any(stands(word, clause) for clause, _ in clauses(text))


def stands(word: str, text: str) -> bool:
    """Whether a word stands in a text as a whole word, in any case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None
