"""Whether a finding is in an image at all, by the map of a network.

Measured against what is said of real images, and against what synthetic images were asked to show.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from cxrsynth.data.boxes import READERS
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.patients import patient_id
from cxrsynth.domain.lexicon import found, is_normal, words_on_findings
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.classification import threshold
from cxrsynth.evaluate.finding_maps import Read
from cxrsynth.evaluate.findings import BENCHMARK
from cxrsynth.evaluate.lesions import Half, in_half
from cxrsynth.evaluate.results import Record, record
from cxrsynth.records import Row
from cxrsynth.statistics import auroc_interval, bootstrap
from cxrsynth.store import Store

TOP = 0.01  # of a map's pixels: one pixel is noise, the whole map says how large a finding is
BATCH = 8
# What the collections call a finding of ours; others by their own name.
CALLED = {"opacity": "pneumonia"}
OnImage = Callable[[int, int], None]


def score(drawn: np.ndarray) -> float:
    """The mean of the highest hundredth of a map, (H, W) float."""
    count = max(1, round(TOP * drawn.size))
    return float(np.partition(drawn, -count, axis=None)[-count:].mean())


def scores(
    data: Path, chosen: Sequence[Row], read: Read, on_image: OnImage = lambda done, total: None
) -> dict[str, np.ndarray]:
    """(N,) float scores of every phrase or class that ``read`` gives maps of."""
    store = Store(data)
    values: dict[str, list[float]] = {}
    for start in range(0, len(chosen), BATCH):
        part = list(chosen[start : start + BATCH])
        for name, maps in read(part, [store.load_image(row) for row in part]).items():
            values.setdefault(name, []).extend(score(one) for one in maps)
        on_image(start + len(part), len(chosen))
    return {name: np.array(one) for name, one in values.items()}


def said(row: Row, finding: str) -> float:
    """1 where the words of an image name the finding, 0 where they say that nothing is found and nobody boxed anything,
    NaN where the image says neither.
    """
    text = words_on_findings(row)
    if found(text, CALLED.get(finding, finding)):
        return 1.0
    boxed = any(row.get(f"boxes_{reader}") for reader in READERS)
    return 0.0 if is_normal(text) and not boxed else float("nan")


def on_real(
    data: Path,
    read: Read,
    findings: Sequence[str],
    arm: str,
    dataset: str,
    half: Half = "working",
    sources: Sequence[str] = (),
    seen: Collection[str] = (),
    on_image: OnImage = lambda done, total: None,
) -> list[Record]:
    """AUROC of images with a finding against images without any, with intervals by patient.

    Args:
        read: maps of the findings.
        findings: those of which the images show one kind only are left out.
        dataset: what tables call the data.
        sources: only these; telling hospitals apart would look like finding a disease.
        seen: patients that the network was trained on; left out.

    Raises:
        UsageError: no image says anything about the findings.
    """
    known = frozenset(seen)
    rows = [
        row
        for row in read_rows(data)
        if in_half(row, half) and patient_id(row) not in known and (not sources or row.get("source") in sources)
    ]
    truth = np.array([[said(row, finding) for finding in findings] for row in rows]).reshape(len(rows), len(findings))
    usable = ~np.isnan(truth).all(axis=1)
    if not usable.any():
        raise UsageError(
            f"no image of the {half} half of {data} is said to have or to lack {' or '.join(findings)}",
            "ingest images whose table has the column findings",
        )
    rows, truth = [row for row, kept in zip(rows, usable, strict=True) if kept], truth[usable]
    measured = scores(data, rows, read, on_image)
    records = []
    for column, finding in zip(truth.T, findings, strict=True):
        told = ~np.isnan(column)
        if len(np.unique(column[told])) < 2:
            continue
        values = np.stack([measured[finding][told], column[told]], axis=1)
        figures = auroc_interval(values, [patient_id(row) for row, kept in zip(rows, told, strict=True) if kept])
        records.append(
            record(BENCHMARK, arm, f"{dataset}:labels:{half}", "image_auroc", figures, int(told.sum()), finding)
        )
    return records


def thresholds(data: Path, read: Read, findings: Sequence[str], splits: Sequence[str] = ("val",)) -> dict[str, float]:
    """The score from which a finding counts as there, chosen on images whose findings are known exactly.

    Args:
        data: as `cxrsynth simulate` wrote it.
    """
    rows = read_rows(data, splits)
    measured = scores(data, rows, read)
    return {
        finding: threshold(measured[finding], np.array([float(row["present"][finding]) for row in rows]))
        for finding in findings
    }


def asked(
    data: Path, read: Read, limits: Mapping[str, float], arm: str, on_image: OnImage = lambda done, total: None
) -> list[Record]:
    """How often a finding that was asked for is there, and one that was not is absent, per finding and over all.

    Args:
        data: synthetic images; their rows say what was asked for (``present``).
        limits: finding -> score from which it counts as there, see `thresholds`; findings that nobody could ask for
            are left out.
    """
    rows = read_rows(data)
    wanted = [finding for finding in limits if all(finding in row["present"] for row in rows)]
    measured = scores(data, rows, read, on_image)
    asked_for = np.array([[bool(row["present"][finding]) for finding in wanted] for row in rows])
    there = np.stack([measured[finding] >= limits[finding] for finding in wanted], axis=1)  # (N, K)
    keys = np.array([[row["key"]] * len(wanted) for row in rows])
    records = []
    for metric, which, right in (("asked_and_there", asked_for, there), ("not_asked_and_absent", ~asked_for, ~there)):
        for k, name in enumerate([*wanted, "all"]):
            columns = slice(None) if name == "all" else slice(k, k + 1)
            chosen = which[:, columns]
            if chosen.any():
                values = right[:, columns][chosen].astype(float)
                figures = bootstrap(values, keys[:, columns][chosen].tolist())
                records.append(record(BENCHMARK, arm, data.resolve().name, metric, figures, len(values), name))
    return records
