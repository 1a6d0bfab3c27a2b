"""A trained segmentation network against people's masks: figures per class with intervals, and the worst films."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxrsynth.data.labelled import LabelledFilm, Source, gather
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.evaluate.metrics import METRICS, TOLERANCE, Scores, score, summarise, worst
from cxrsynth.evaluate.results import Record, record
from cxrsynth.nets.segmenter import Segmenter, locate
from cxrsynth.pages.worst import SHOWN, worst_sheet
from cxrsynth.store import Row, Store

CHUNK = 16


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of a network on the films of a split.

    Attributes:
        films: class -> metric -> value, one per film.
        keys: of the films, in the same order.
        patients: of the films.
        unit: of ``hd95`` and of the tolerance of ``nsd``: ``mm`` or ``px``.
        summary: what `summarise` says.
        picture: the worst films, RGB.
    """

    films: list[Scores]
    keys: list[str]
    patients: list[str]
    unit: str
    summary: list[dict[str, Any]]
    picture: Image.Image

    def records(self, arm: str, dataset: str, benchmark: str = "seg", seeds: Sequence[int] = (0,)) -> list[Record]:
        """The summary in the tidy form; distances in mm are named so (``hd95_mm``), others are in pixels."""
        return [
            record(
                benchmark, arm, dataset, self.metric(item["metric"]), (item["value"], item["lo"], item["hi"]),
                item["n"], item["class"], seeds,
            )
            for item in self.summary
        ]  # fmt: skip

    def metric(self, name: str) -> str:
        """The name of a metric with its unit."""
        return f"{name}_mm" if self.unit == "mm" and name in ("hd95", "nsd") else name

    def as_json(self) -> dict[str, Any]:
        """Every film's figures, for paired tests; what does not count is null."""
        rows = [
            {
                "key": key,
                "patient": patient,
                "scores": {
                    klass: {
                        metric: None if values[metric] != values[metric] else round(values[metric], 5)
                        for metric in METRICS
                    }
                    for klass, values in film.items()
                },
            }
            for key, patient, film in zip(self.keys, self.patients, self.films, strict=True)
        ]
        return {"unit": self.unit, "tolerance": TOLERANCE, "films": rows}


def evaluate_segmenter(
    segmenter: Segmenter,
    data: Path,
    split: str = "test",
    classes: Sequence[str] = (),
    sources: Sequence[str] = (),
    learned: dict[str, list[str]] | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compare a network with the masks of a split, each film at its own size.

    Classes match by name: the network's channels and the dataset's ids may differ.

    Args:
        classes: what to measure; by default all classes that both know.
        sources: only films of these sources.
        learned: patients the network was trained on, as `patients_of` gives them.
        advance: told (films done, all films).

    Raises:
        UsageError: network and dataset share no class, or the split is empty.
        MismatchError: as in `gather`; or a film's patient was trained on.
    """
    known = Store(data).classes()
    shared = [name for name in segmenter.classes if name in known]
    wanted = list(classes) or shared
    for name in wanted:
        if name not in shared:
            raise UsageError(
                f"'{name}' is not both a class of the network ({', '.join(segmenter.classes)}) "
                f"and of {data} ({', '.join(known)})",
                f"both have: {', '.join(shared)}" if shared else "train on a dataset with the same class names",
            )
    if not wanted:
        raise UsageError(
            f"the network knows {', '.join(segmenter.classes)}, {data} {', '.join(known)}",
            "train on a dataset with the same class names",
        )
    films = gather(Source(data), split, wanted, lambda row: not sources or row.get("source") in sources)
    check_unseen(films, learned or {}, split)
    spacing = [spacing_of(film.row) for film in films]
    in_mm = all(value is not None for value in spacing)
    numbers = {name: i for i, name in enumerate(wanted, start=1)}
    # Channel of the network -> number among the classes asked for; its other classes are background here.
    table = np.zeros(256, np.uint8)
    for name, i in numbers.items():
        table[segmenter.classes.index(name) + 1] = i
    scores: list[Scores] = []
    for start in range(0, len(films), CHUNK):
        part = films[start : start + CHUNK]
        masks = segmenter([film.image() for film in part])
        for film, mask, mm in zip(part, masks, spacing[start:], strict=False):
            scores.append(score(film.mask(), table[mask], numbers, mm if in_mm and mm else (1.0, 1.0)))
        if advance:
            advance(start + len(part), len(films))
    patients = [film.patient for film in films]
    shown = worst(scores)[:SHOWN]
    images = [films[i].image() for i in shown]
    picture = worst_sheet(
        images,
        [films[i].mask() for i in shown],
        [table[mask] for mask in segmenter(images)],
        [films[i].row["key"] for i in shown],
        np.array([[scores[i][name]["dice"] for name in wanted] for i in shown]),
        wanted,
        f"the worst of {len(films)} films, {data.resolve().name}:{split}",
    )
    keys = [film.row["key"] for film in films]
    return Evaluation(scores, keys, patients, "mm" if in_mm else "px", summarise(scores, patients), picture)


def spacing_of(row: Row) -> tuple[float, float] | None:
    """mm between the rows and between the columns of the stored picture, where the dataset says so."""
    value = row.get("pixel_spacing")
    if not value:
        return None
    return float(value[0]), float(value[1])


def patients_of(folder: Path) -> dict[str, list[str]]:
    """The patients a trained network has seen: ``{"train": [...], "val": [...]}``."""
    path = locate(folder) / "films.json"
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def check_unseen(films: Sequence[LabelledFilm], learned: dict[str, list[str]], split: str) -> None:
    """Refuse to test on a patient that the network was trained on; measuring the training split itself is allowed.

    Raises:
        MismatchError: naming the film and the patient.
    """
    if split == "train":
        return
    seen = set(learned.get("train", []))
    for film in films:
        if film.patient in seen:
            raise MismatchError(
                f"{film.store.root / film.row['image']}: patient {film.patient} was in the training of this network",
                "give all films of a patient the same split, or measure on another dataset",
            )
