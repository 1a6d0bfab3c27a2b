"""The benchmark of findings learns from nobody it reports on, and says what it measured beside what was aimed at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.findings.bench import Bench
from benchmarks.findings.figures import own
from benchmarks.findings.material import boxes, few, simulated
from benchmarks.findings.networks import arms
from benchmarks.findings.settings import Settings
from benchmarks.findings.smoke import SETTINGS, chests
from benchmarks.findings.targets import summary
from cxrsynth.data.patients import patient_id
from cxrsynth.evaluate.lesions import half_of
from cxrsynth.evaluate.results import record
from cxrsynth.recipe.settings import load_as
from cxrsynth.records import IGNORE
from cxrsynth.store import Store

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("bench")
    return Bench(SETTINGS.model_copy(update={"simulated": 4}), chests(root / "real"), root / "made", "reporting")


def test_the_recipe_of_the_benchmark_is_understood() -> None:
    settings = load_as(Settings, ROOT / "recipes/bench/findings.yaml")
    assert set(settings.detector) <= set(settings.simulation.classes)


def test_boxes_to_learn_from_are_of_the_working_half(bench: Bench) -> None:
    assert {half_of(row["patient"]) for row in few(bench)} == {"working"}
    assert len({row["patient"] for row in few(bench)}) == bench.settings.boxes


def test_findings_are_put_into_the_working_half_and_into_nobody_whose_boxes_are_learned_from(bench: Bench) -> None:
    patients = {(patient_id(row), half_of(row["patient"])) for row in Store(simulated(bench)).rows()}
    assert {half for _, half in patients} == {"working"}
    assert not {patient for patient, _ in patients} & {patient_id(row) for row in few(bench)}


def test_images_with_boxes_are_learned_from_in_part_and_never_for_weights_that_are_given_away(bench: Bench) -> None:
    store = Store(boxes(bench))
    for row in store.rows():
        assert row["mask_use"] == "benchmark"
        assert set(np.unique(store.load_mask(row))) == {0, 1, IGNORE}  # type: ignore[arg-type]


def test_only_arms_that_say_so_learn_from_boxes(bench: Bench) -> None:
    assert {arm.name for arm in arms(bench) if "boxes" in arm.sources} == {
        "boxes",
        "simulated+boxes",
        "generated+boxes",
    }


def test_of_a_network_the_class_of_the_finding_counts() -> None:
    found = [figure(arm, klass) for arm in ("net: opacity", "net: effusion") for klass in ("opacity", "tuberculosis")]
    kept = own(found, "net", {"opacity": "opacity", "effusion": "effusion", "tuberculosis": "opacity"})
    assert [(one["arm"], one["class"]) for one in kept] == [("net", "opacity"), ("net", "tuberculosis")]


def test_a_figure_stands_beside_its_target_and_what_was_not_measured_is_left_out(bench: Bench) -> None:
    rows = summary(bench, [figure("simulated", "opacity", "d:rsna:working"), figure("simulated", "opacity")])
    assert [(one["dataset"], one["metric"], one["value"]) for one in rows] == [
        ("targets:reporting", "measured", 0.5),
        ("targets:reporting", "target", 0.75),
    ]


def figure(arm: str, klass: str, dataset: str = "d:rsna:reporting") -> dict[str, Any]:
    return record("lesions", arm, dataset, "pointing", (0.5, 0.4, 0.6), 10, klass)
