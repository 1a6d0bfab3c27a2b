"""What is measured: words, networks, presence, control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.findings.bench import Bench
from benchmarks.findings.material import BEFORE, OPACITY
from benchmarks.findings.networks import DETECTOR, SIMULATED, Arm, opened
from cxrsynth.console import meter
from cxrsynth.data.boxes import READERS, READINGS
from cxrsynth.device import resolve
from cxrsynth.evaluate.controllability import pathology
from cxrsynth.evaluate.finding_maps import attention, segmented
from cxrsynth.evaluate.findings import BENCHMARK, CHANCE, measure, phrases_for, records
from cxrsynth.evaluate.lesions import Case, cases
from cxrsynth.evaluate.presence import asked, on_real, thresholds
from cxrsynth.evaluate.results import Record
from cxrsynth.nets import classifier as classifiers
from cxrsynth.recipe import load as load_recipe
from cxrsynth.store import Store


def places(bench: Bench, known: frozenset[str] = frozenset()) -> list[Case]:
    """The places of findings that anybody named in the half that is measured, without the patients of a training."""
    return cases(bench.labelled, bench.half, (*READERS, READINGS), bench.labelled, known)


def words(bench: Bench) -> list[Record]:
    """Where the model's words look: plain, and against a phrase of nothing; with chance and control words."""
    chosen = places(bench)
    phrases = phrases_for(list(dict.fromkeys(case.finding for case in chosen)))
    device, name = resolve(bench.device).type, bench.settings.model
    found: list[Record] = []
    for against in dict.fromkeys(("", bench.settings.against)):
        arm = f"{Path(name).name} against {against}" if against else Path(name).name
        read = attention(bench.model.path, phrases, against, device=device)
        with meter(len({case.row["key"] for case in chosen}), arm) as bar:
            values = measure(bench.labelled, chosen, read, lambda done, total: bar.set(done))
        measured = records(chosen, values, arm, bench.data.resolve().name, bench.half)
        found += [one for one in measured if not against or one["arm"] != CHANCE]  # chance is the same for both
    return found


def pointing(bench: Bench, arm: Arm, run: Path, known: frozenset[str]) -> list[Record]:
    """Where a network looks, for each finding that it knows; a zone that a reading names is looked for by opacity."""
    called = {finding: finding for finding in arm.findings}
    if OPACITY in called:
        called["tuberculosis"] = OPACITY
    chosen = [case for case in places(bench, known) if case.finding in called]
    if not chosen:
        return []
    read = segmented(opened(bench, run), arm.findings)
    with meter(len({case.row["key"] for case in chosen}), f"point {arm.name}") as bar:
        values = measure(bench.labelled, chosen, read, lambda done, total: bar.set(done))
    found = records(chosen, values, arm.name, bench.data.resolve().name, bench.half)
    return own(found, arm.name, called)


def own(found: Sequence[Record], name: str, called: Mapping[str, str]) -> list[Record]:
    """Of the figures of all classes on all findings those of a finding's own class, under the network's name; chance
    stands beside the words."""
    return [{**one, "arm": name} for one in found if one["arm"] == f"{name}: {called[one['class']]}"]


def image_level(bench: Bench, arm: Arm, run: Path, known: frozenset[str]) -> list[Record]:
    """Whether a network tells images with a finding from those without any."""
    read, name = segmented(opened(bench, run), arm.findings), bench.data.resolve().name
    sources = bench.settings.labelled
    with meter(1, f"images {arm.name}") as bar:
        return on_real(
            bench.labelled, read, arm.findings, arm.name, name, bench.half, sources, known,
            lambda done, total: bar.set(done / total),
        )  # fmt: skip


def asked_for(bench: Bench, run: Path, folders: Mapping[str, Path], made: Path) -> list[Record]:
    """Whether findings that were asked for are there, and others absent; thresholds are from simulated images."""
    known = [name for name in bench.settings.detector if name in Store(made).classes()]
    read = segmented(opened(bench, run), bench.settings.detector)
    limits = thresholds(folders[SIMULATED], read, bench.settings.detector)
    return asked(made, read, {name: limits[name] for name in known}, DETECTOR)


def control(bench: Bench, folders: Mapping[str, Path]) -> list[Record]:
    """What a classifier that learned from real images says before and after a finding was put in."""
    evaluator = None if bench.classifier is None else classifiers.load(bench.classifier, resolve(bench.device))
    found: list[Record] = []
    for finding, folder in folders.items():
        if finding == BEFORE:
            continue
        imposed = load_recipe(folder / "recipe.yaml").control
        for one in pathology(folder, folders[BEFORE], evaluator, imposed.inpaint.feather if imposed else 0.0):
            found.append({**one, "benchmark": BENCHMARK, "dataset": "control"})
    return found
