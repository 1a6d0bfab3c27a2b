"""A comparison of several synthetic datasets: what each adds to the first one, with an interval."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cxrsynth.compare import CompareRecipe, compare, keep_apart, load
from cxrsynth.compare.classify_recipe import load as load_findings
from cxrsynth.compare.comparison import Outcome, pairs_of
from cxrsynth.compare.grid import Grid, Run, plan
from cxrsynth.compare.report import intro
from cxrsynth.data.hardness import chances_of
from cxrsynth.data.labelled import Source, gather
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.recipe import bundled_recipes
from cxrsynth.train.tasks.segment.training import train_segmenter
from tests.compare.test_compare import TRAIN
from tests.train.chests import CLASSES, make
from tests.train.test_segment import config, stop_after

SCORES = {number: {"scores": {"hardness": 0.1 * number}} for number in range(5)}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    make(root / "real", splits="ttttvsss")
    make(root / "generated", splits="ttttv", source="generated")
    make(root / "pruned", splits="tttv", source="generated", rows=SCORES)
    return root


def recipe(root: Path, **changes: Any) -> CompareRecipe:
    body = {
        "name": "chests", "real": root / "real", "synthetic": root / "generated", "tests": [{"data": root / "real"}],
        "also": {"pruned": root / "pruned", "hard": {"data": root / "pruned", "hardness": 0.5}},
        "arms": ["real", "synthetic"], "real_patients": [0], "synthetic_images": [3, 0], "seeds": [0], "train": TRAIN,
    }  # fmt: skip
    return CompareRecipe.model_validate({**body, **changes})


@pytest.fixture(scope="module")
def outcome(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return compare(recipe(datasets), tmp_path_factory.mktemp("out"), "cpu")


def test_another_dataset_is_an_arm_of_its_own(outcome: Outcome) -> None:
    arms = {item["arm"] for item in outcome.records if item["metric"] == "dice"}
    assert arms == {"R-all", "S-3", "S-all", "S-all pruned", "S-all hard"}


def test_it_is_compared_with_the_first_with_an_interval(outcome: Outcome) -> None:
    found = {item["arm"]: item for item in outcome.records if item["metric"] == "dice_difference"}
    assert {f"S-all pruned - {other}" for other in ("R-all", "S-3", "S-all")} <= set(found)
    assert all(item["lo"] <= item["value"] <= item["hi"] for item in found.values())


def test_two_trainings_on_the_same_images_are_compared(outcome: Outcome) -> None:
    pairs = {(item["arm"], item["against"]) for item in outcome.comparisons}
    assert ("S-all hard", "S-all pruned") in pairs


def test_it_is_mixed_and_fine_tuned_as_the_first_is(datasets: Path) -> None:
    body = {"arms": ["mixed", "fine_tuned", "teacher"], "mixed_patients": [2], "fine_tuned_patients": [0]}
    both = recipe(datasets, **body, also={"pruned": datasets / "pruned"})
    arms = {run.arm: run for run in plan(both) if run.dataset and run.shown}
    assert set(arms) == {"R-2+S-all pruned", "S-all pruned>R-all"}
    pairs = pairs_of([run for run in plan(both) if run.shown], both.others)
    assert ("R-2+S-all pruned", "R-2+S-all") in pairs
    assert ("S-all pruned>R-all", "S-all>R-all") in pairs


def test_a_run_goes_on_from_the_half_on_its_own_images(datasets: Path, tmp_path: Path) -> None:
    grid = Grid(recipe(datasets, arms=["fine_tuned"]), tmp_path)
    last = Run(0, real=0, synthetic=0, order="then", dataset="pruned")
    assert [grid.generated(run).name for run in grid.needs(last)] == ["pruned"]


def test_another_dataset_trains_no_run_of_the_first_again(datasets: Path, tmp_path: Path) -> None:
    run = Run(0, synthetic=0)
    first, second = (Grid(recipe(datasets, also=also), tmp_path) for also in ({}, {"pruned": datasets / "pruned"}))
    assert first.folder(run) == second.folder(run)


def test_hardness_gives_another_run(datasets: Path, tmp_path: Path) -> None:
    grid = Grid(recipe(datasets), tmp_path)
    plain, hard = (Run(0, synthetic=0, dataset=name) for name in ("pruned", "hard"))
    assert grid.config(hard).hardness == 0.5
    assert grid.folder(plain).name.rpartition("-")[2] != grid.folder(hard).name.rpartition("-")[2]


def test_hardness_of_all_arms_is_refused(datasets: Path) -> None:
    with pytest.raises(ValidationError, match="real images have no scores"):
        recipe(datasets, train={**TRAIN, "hardness": 0.5})


def test_the_name_of_an_arm_is_no_name_of_a_dataset(datasets: Path) -> None:
    with pytest.raises(ValidationError, match="names of arms"):
        recipe(datasets, also={"teacher": datasets / "pruned"})


def test_all_datasets_are_checked_before_anything_is_trained(datasets: Path, tmp_path: Path) -> None:
    lungs = make(tmp_path / "lungs", classes={name: CLASSES[name] for name in ("right_lung", "left_lung")})
    with pytest.raises(UsageError, match="left_lung"):
        compare(recipe(datasets, also={"lungs": lungs}), tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def test_a_comparison_does_not_write_into_another_dataset(datasets: Path) -> None:
    with pytest.raises(UsageError, match="what is read"):
        keep_apart(recipe(datasets), datasets / "pruned" / "out")


def test_the_report_says_what_the_names_mean(datasets: Path) -> None:
    assert "pruned (pruned), hard (pruned)" in intro(recipe(datasets))
    assert "NAME" not in intro(recipe(datasets, also={}))


@pytest.mark.parametrize("name", sorted(path.stem for path in (bundled_recipes() / "compare").glob("*.yaml")))
def test_every_bundled_comparison_can_be_loaded(name: str) -> None:
    path = Path("compare") / name
    body = load_findings(path) if name.startswith("findings") else load(path)
    assert body.name == name
    assert len(plan(body)) >= len(body.seeds)


def test_a_dataset_is_added_on_the_command_line(datasets: Path) -> None:
    assert load(Path("compare/lung"), {"also.pruned": "out/pruned"}).others == {"pruned": Path("out/pruned")}


def test_hard_images_come_in_proportion_and_none_is_forgotten(datasets: Path) -> None:
    images = gather(Source(datasets / "pruned"), "train", tuple(CLASSES))
    chances = chances_of(images, 0.5)
    assert chances == pytest.approx([1 / 6, 1 / 6 + 1 / 6, 1 / 6 + 1 / 3])  # hardness 0, 0.1, 0.2


def test_images_that_nobody_measured_are_all_alike(datasets: Path) -> None:
    assert chances_of(gather(Source(datasets / "generated"), "train", tuple(CLASSES)), 1.0) is None


def test_a_training_with_hardness_wants_images_that_were_measured(datasets: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="how hard"):
        train_segmenter([Source(datasets / "generated")], tmp_path / "run", config(hardness=0.5), device="cpu")


def test_other_scores_are_another_training(datasets: Path, tmp_path: Path) -> None:
    hard = config(updates=2, hardness=1.0)
    flat = {number: {"scores": {"hardness": 0.5}} for number in range(5)}
    make(tmp_path / "flat", splits="tttv", source="generated", rows=flat)
    with pytest.raises(KeyboardInterrupt):
        train_segmenter([Source(datasets / "pruned")], tmp_path / "run", hard, device="cpu", on_step=stop_after(1))
    with pytest.raises(MismatchError):
        train_segmenter([Source(tmp_path / "flat")], tmp_path / "run", hard, device="cpu")
