"""Trainings until validation stops improving, and what trainings took."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cxrsynth.compare import CompareRecipe, compare, load, write_report
from cxrsynth.compare.comparison import Outcome
from cxrsynth.compare.grid import Grid, Run, plan
from cxrsynth.compare.report import intro, markdown
from tests.compare.test_compare import TRAIN, recipe
from tests.train.chests import make

# Nothing improves: next to no learning rate, weights without average. So a plateau is reached soon.
STILL = {**TRAIN, "updates": 30, "look_every": 1, "patience": 1, "lr": 1e-12, "ema": 0.0}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    make(root / "real", splits="ttttvsss")
    make(root / "generated", splits="ttttv", source="generated")
    return root


def until(root: Path, **changes: Any) -> CompareRecipe:
    body = {"arms": ["synthetic", "fine_tuned"], "real_patients": [0], "synthetic_images": [0], "seeds": [0]}
    return recipe(root, **{**body, "until": "plateau", "train": STILL, **changes})


@pytest.fixture(scope="module")
def finished(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("out")
    outcome = compare(until(datasets), out, "cpu")
    write_report(until(datasets), outcome, out)
    return out, outcome


def spent(outcome: Outcome) -> dict[tuple[str, str], float]:
    return {(i["arm"], i["metric"]): i["value"] for i in outcome.records if i["dataset"] == "chests:training"}


def test_a_training_ends_when_validation_on_real_images_gains_nothing(finished: tuple[Path, Outcome]) -> None:
    (place,) = finished[0].glob("runs/S-all-seed0-*")
    metrics = json.loads((place / "model/metrics.json").read_text())
    assert metrics["stopped_early"]
    assert metrics["updates"] < 30
    validated = json.loads((place / "model/patients.json").read_text())["val"]
    assert validated == ["clinic/p4"]  # of the real dataset, though only synthetic images are learned from


def test_every_arm_tells_its_updates_images_and_seconds(finished: tuple[Path, Outcome]) -> None:
    found = spent(finished[1])
    assert set(found) == {
        (arm, name) for arm in ("S-all", "S-all>R-all") for name in ("updates", "images_seen", "train_seconds")
    }
    assert found["S-all", "images_seen"] == 2 * found["S-all", "updates"]
    assert found["S-all", "train_seconds"] > 0


def test_a_fine_tuned_arm_counts_both_halves(finished: tuple[Path, Outcome]) -> None:
    names = ("S-all-first-half", "S-all-then-R-all")
    found = [path for name in names for path in finished[0].glob(f"runs/{name}-seed0-*/model/metrics.json")]
    halves = [json.loads(path.read_text()) for path in found]
    assert len(halves) == 2
    assert spent(finished[1])["S-all>R-all", "updates"] == sum(half["updates"] for half in halves)


def test_the_report_says_how_long_arms_were_trained_and_who_decided(
    datasets: Path, finished: tuple[Path, Outcome]
) -> None:
    text = (finished[0] / "compare.md").read_text()
    assert "stopped improving, after 30 updates at most" in text
    assert "## Training" in text
    assert "<th>train seconds</th>" in (finished[0] / "report.html").read_text()
    assert "same number of updates" in intro(until(datasets, until="fixed"))
    assert "chests:training\n" not in markdown(until(datasets), finished[1])  # it is no test


def test_a_fixed_number_of_updates_takes_the_last_average(datasets: Path, tmp_path: Path) -> None:
    config = Grid(until(datasets, until="fixed"), tmp_path).config(Run(0, real=0))
    assert (config.patience, config.look_every, config.updates) == (0, 30, 30)


def test_a_plateau_needs_patience(datasets: Path) -> None:
    with pytest.raises(ValidationError, match=r"plateau needs train\.patience"):
        until(datasets, train={**STILL, "patience": 0})


@pytest.mark.parametrize("name", ["pretrained", "segformer"])
def test_the_comparisons_of_strong_networks_can_be_loaded(name: str) -> None:
    body = load(Path("compare") / name)
    assert (body.name, body.until, body.train.size, body.train.augment.style) == (name, "plateau", 256, "nnunet")
    assert len(plan(body)) >= 6
