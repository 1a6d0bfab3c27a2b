"""What the page shows, as plain values: which images, their details, and the numbers of the charts."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrsynth.curate import words
from cxrsynth.curate.check import Limits
from cxrsynth.curate.verdict import limits
from cxrsynth.data.documents import read_json
from cxrsynth.domain.lexicon import FINDINGS, found, is_normal, trait, words_on_findings
from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.pages import sheet
from cxrsynth.pages.report import thumbs
from cxrsynth.pages.summary import Summary, choose, evenly, measure_areas, ordered
from cxrsynth.records import Row

LONGEST = 320  # pixels of an embedded image's longer side
MEASURED = 1000  # masks whose areas are measured; more would not move a mean that anyone reads

FACTS = ("split", "seed", "attempt", "control", "source", "licence", "patient", "view", "sex", "age", "findings")


@dataclass(frozen=True, slots=True)
class Tile:
    """One image of a gallery.

    Attributes:
        ident: unique in the page; what a link to it says.
        row: its meta line, or the line of a rejected attempt.
        image: data URI of the image.
        size: (width, height) of the embedded image.
        regions: class id -> data URI of its transparent mask.
        classes: names of the classes that its mask shows.
        findings: what is said to be seen, ``no finding`` for a normal image; empty where nothing is said.
        view: ``PA``, ``AP`` or another projection; empty where nothing is said.
        sex: ``woman``, ``man`` or empty.
        why: the reason of a rejection in words.
        detail: what the large view tells.
    """

    ident: str
    row: Row
    image: str
    size: tuple[int, int]
    regions: dict[int, str]
    classes: list[str]
    findings: list[str]
    view: str
    sex: str
    why: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Images and what was learnt while looking at them.

    Attributes:
        tiles: kept images.
        rejected: rejected attempts; at least one of every reason.
        gray: (256,) int64, how often each gray level occurs in the tiles.
        average: data URI of the mean image, empty where nothing was kept.
    """

    tiles: list[Tile]
    rejected: list[Tile]
    gray: np.ndarray
    average: str


def gallery(summary: Summary, limit: int) -> Gallery:
    """Choose, shrink and describe at most ``limit`` kept and half as many rejected images."""
    names = {label.id: label.name for label in summary.labels}
    gray = np.zeros(256, dtype=np.int64)
    tiles: list[Tile] = []
    masked = any(row.get("mask") for row in summary.rows)
    averaged = []
    for row in choose(summary.rows, limit):
        image, regions = summary.store.load_image(row), summary.regions(row)
        gray += np.bincount(image.ravel(), minlength=256)
        tiles.append(_tile(summary, row, image, regions, names))
        if regions or not masked:
            averaged.append(_small(image, regions))
    rejected = [
        _tile(summary, row, summary.store.load_image(row), {}, names)
        for row in choose_rejects(summary.rejects, max(1, limit // 2))
    ]
    return Gallery(tiles, rejected, gray, thumbs.average(averaged))


def choose_rejects(rejects: list[Row], limit: int) -> list[Row]:
    """At most ``limit`` rejected attempts, evenly chosen, but one of every reason first."""
    first: dict[str, int] = {}
    for place, row in enumerate(rejects):
        first.setdefault(row["reason"], place)
    must = sorted(first.values())[:limit]
    rest = sorted(set(range(len(rejects))) - set(must))
    return [rejects[place] for place in sorted([*must, *evenly(rest, limit - len(must))])]


def _tile(
    summary: Summary, row: Row, image: np.ndarray, regions: Mapping[int, np.ndarray], names: Mapping[int, str]
) -> Tile:
    size = thumbs.fitting(image.shape, LONGEST)
    ident = f"{row['key']}-{row.get('attempt', 0)}" if "reason" in row else str(row["key"])
    return Tile(
        ident=ident,
        row=row,
        image=thumbs.image(image, size),
        size=size,
        regions={class_id: thumbs.region(inside, class_id, size) for class_id, inside in regions.items()},
        classes=[names[class_id] for class_id in regions],
        findings=findings(row),
        view=view(row),
        sex=sex(row),
        why=words.reason(row.get("reason") or ""),
        detail=describe(summary, row),
    )


def findings(row: Row) -> list[str]:
    """What an image is said to show: the names of a column, or those of the lexicon that its prompt asserts."""
    text = words_on_findings(row)
    if is_normal(text):
        return ["no finding"]
    if row.get("findings"):
        return [name.strip() for name in re.split(r"[,;|]", text) if name.strip()]
    return [name for name in FINDINGS if found(text, name)]


def view(row: Row) -> str:
    """The projection of an image."""
    said = trait({"prompt": "", **row}, "AP")
    stated = row.get("view") or (row.get("fields") or {}).get("view")
    return str(stated or ("" if math.isnan(said) else ("PA", "AP")[int(said)]))


def sex(row: Row) -> str:
    """``woman``, ``man`` or nothing."""
    said = trait({"prompt": "", **row}, "woman")
    return "" if math.isnan(said) else ("man", "woman")[int(said)]


def counted(values: Iterable[str]) -> Counter[str]:
    """How often each value occurs, the most frequent first; without the empty one."""
    return ordered(Counter(value for value in values if value))


def _small(image: np.ndarray, regions: Mapping[int, np.ndarray]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Shrunk by leaving out rows and columns: hundreds of images at full size would not fit into memory."""
    step = max(1, max(image.shape) // 256)
    return image[::step, ::step], {class_id: inside[::step, ::step] for class_id, inside in regions.items()}


def describe(summary: Summary, row: Row) -> dict[str, Any]:
    """What the large view tells of one image: texts, numbers, and how to make it again."""
    told = {key: row[key] for key in ("prompt", "negative_prompt", "reason", "image", "mask") if row.get(key)}
    facts: dict[str, str] = {}
    # Seeds have 63 bits, JavaScript's numbers 53: they travel as text.
    for key in FACTS:
        if row.get(key) not in (None, ""):
            facts[key] = str(row[key])
    facts.update({key: str(value) for key, value in (row.get("fields") or {}).items() if key not in facts})
    absent = [name for name, there in (row.get("present") or {}).items() if not there]
    if absent:
        facts["not asked for"] = ", ".join(absent)
    scores = {name: float(value) for name, value in sorted((row.get("scores") or {}).items()) if finite(value)}
    why = {"why": words.reason(row["reason"])} if row.get("reason") else {}
    named = {name: words.score(name) for name in scores}
    return {**told, **why, "facts": facts, "scores": scores, "named": named, "command": command(summary, row)}


def command(summary: Summary, row: Row) -> str:
    """The command that makes an image's shard again, to be typed in the dataset's folder; empty for real images."""
    size, count = summary.recipe.get("shard"), summary.recipe.get("count")
    if "source" in row or not size or not count or not str(row["key"]).isdecimal():
        return ""
    return f"cxrsynth generate --prompts recipe.yaml -o again --shard {int(row['key']) // size}/{-(-count // size)}"


def numbers(summary: Summary) -> dict[str, Any]:
    """Counts and distributions over the whole dataset (areas: over at most `MEASURED` images)."""
    areas = measure_areas(summary, MEASURED)
    labelled = sum(1 for row in summary.rows if row.get("mask"))
    scores: dict[str, array[float]] = {}
    for row in summary.rows:
        for name, value in (row.get("scores") or {}).items():
            if finite(value) and not name.startswith("area."):  # areas have charts of their own
                scores.setdefault(name, array("d")).append(float(value))
    tried = len(summary.rows) + len(summary.rejects)
    return {
        "labels": [
            {
                "id": label.id,
                "name": label.name,
                "phrase": label.phrase,
                "colour": "#{:02x}{:02x}{:02x}".format(*sheet.colour(label.id)),
                "seen": len(areas[label.name]),
                "areas": areas[label.name],
                "mean": float(np.mean(areas[label.name])) if areas[label.name] else None,
                "sd": float(np.std(areas[label.name])) if areas[label.name] else None,
            }
            for label in summary.labels
        ],
        "measured": min(MEASURED, labelled),
        "labelled": labelled,
        "scores": dict(sorted(scores.items())),
        "limits": kept_by(summary),
        "prompts": summary.count("prompt"),
        "fields": summary.fields(),
        "splits": summary.splits(),
        "sources": summary.count("source"),
        "reasons": summary.reasons(),
        "accepted": 100 * len(summary.rows) / tried,
        "speed": _speed(summary),
    }


def kept_by(summary: Summary) -> dict[str, Limits]:
    """Score -> what curation kept, by the recipe of the dataset; nothing where its checks are not known here."""
    entries = (summary.recipe.get("curate") or {}).get("checks") or []
    try:
        kept_range = limits(entries, [label.name for label in summary.labels])
    except RecipeError:
        return {}
    # Areas are shown in percent.
    percent = {name: tuple(None if v is None else 100 * v for v in kept) for name, kept in kept_range.items()}
    return {name: percent[name] if name.startswith("area.") else kept for name, kept in kept_range.items()}  # type: ignore[misc]


def _speed(summary: Summary) -> float | None:
    """Images per second of the latest run that made any."""
    for path in sorted((summary.store.root / "runs").glob("*.json"), reverse=True):
        with suppress(UsageError):  # a log is the least of what may be damaged
            run = read_json(path)
            made, seconds = (run.get("samples_made"), run.get("seconds")) if isinstance(run, dict) else (0, 0)
            if isinstance(made, int | float) and isinstance(seconds, int | float) and made > 0 and seconds > 0:
                return float(made) / float(seconds)
    return None


def finite(value: object) -> bool:
    """Whether a score can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)
