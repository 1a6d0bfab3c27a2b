"""A whole comparison in small: every arm, every table, and no run trained twice."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cxrsynth.compare import CompareRecipe, compare, load, updates, write_report
from cxrsynth.compare.grid import Grid, Run, plan
from cxrsynth.compare.report import html_table, intro, plot_of
from cxrsynth.errors import MismatchError, RecipeError, UsageError
from cxrsynth.train.loop import NotFiniteError
from tests.train.chests import make

TRAIN = {
    "encoder": "tu-mobilenetv3_small_050", "options": {"decoder_channels": [16, 8, 8, 8, 8]}, "size": 64, "batch": 2,
    "updates": 2, "warmup": 1,
}  # fmt: skip


def recipe(root: Path, **changes: Any) -> CompareRecipe:
    body = {
        "name": "chests", "real": root / "real", "synthetic": root / "generated", "tests": [{"data": root / "real"}],
        "real_patients": [2, 0], "synthetic_images": [2, 0], "seeds": [0, 1], "train": TRAIN,
    }  # fmt: skip
    return CompareRecipe.model_validate({**body, **changes})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    make(root / "real", splits="ttttvsss")
    make(root / "generated", splits="ttttv", source="generated")
    return root


@pytest.fixture(scope="module")
def finished(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison with all arms, one seed."""
    out = tmp_path_factory.mktemp("out")
    small = recipe(datasets, seeds=[0])
    write_report(small, compare(small, out, "cpu"), out)
    return out


def test_every_arm_gets_the_same_number_of_updates(datasets: Path) -> None:
    small = recipe(datasets, train={**TRAIN, "updates": 7})
    runs = plan(small)
    halves = {run.order: run.updates(small) for run in runs}
    assert halves == {"mixed": 7, "first": 3, "then": 4}


def test_no_run_needs_a_later_one(datasets: Path, tmp_path: Path) -> None:
    small = recipe(datasets)
    runs, grid = plan(small), Grid(small, tmp_path)
    needed = [(i, other) for i, run in enumerate(runs) for other in grid.needs(run)]
    assert {other for _, other in needed} == {Run(0, real=0), *(Run(s, synthetic=0, order="first") for s in (0, 1))}
    assert all(other in runs[:i] for i, other in needed)


def test_mixed_and_fine_tuned_arms_have_numbers_of_their_own(datasets: Path) -> None:
    runs = plan(recipe(datasets, seeds=[0], mixed_patients=[3], fine_tuned_patients=[4, 0]))
    arms = {run.arm for run in runs if run.real is not None and run.synthetic is not None}
    assert arms == {"R-3+S-all", "S-all>R-4", "S-all>R-all"}


def test_all_results_are_written(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if path.is_file() and path.name[0] != "."}
    assert names == {"compare.json", "compare.csv", "compare.md", "comparisons.json", "curves.png", "report.html"}


def test_every_arm_has_dice_of_every_class_with_an_interval(finished: Path) -> None:
    records = [item for item in json.loads((finished / "compare.json").read_text()) if item["metric"] == "dice"]
    arms = {"R-2", "R-all", "S-2", "S-all", "R-2+S-all", "R-all+S-all", "S-all>R-2", "S-all>R-all", "S-all teacher"}
    arms |= {"R-all teacher"}
    assert {item["arm"] for item in records} == arms
    assert {item["class"] for item in records} == {"right_lung", "left_lung", "heart", "mean"}
    assert all(item["lo"] <= item["value"] <= item["hi"] and item["n"] == 3 for item in records)


def test_every_question_has_its_pair(finished: Path) -> None:
    pairs = {(item["arm"], item["against"]) for item in json.loads((finished / "comparisons.json").read_text())}
    assert {("S-all", "R-all"), ("R-2+S-all", "R-2"), ("S-all>R-2", "R-2"), ("S-all>R-2", "R-2+S-all")} <= pairs


def test_the_teachers_masks_are_told_apart_from_its_images(finished: Path) -> None:
    pairs = {(item["arm"], item["against"]) for item in json.loads((finished / "comparisons.json").read_text())}
    masks, images = ("S-all teacher", "S-all"), ("S-all teacher", "R-all teacher")
    assert {masks, images, ("R-all teacher", "R-all")} <= pairs


def test_the_teacher_labels_each_dataset_once(finished: Path) -> None:
    made = {path.name.rpartition("-")[0] for path in (finished / "teacher").iterdir() if path.is_dir()}
    assert made == {"real", "generated"}


def test_a_ratio_is_given_to_all_real_images_only(finished: Path) -> None:
    records = json.loads((finished / "compare.json").read_text())
    found = {item["arm"] for item in records if item["metric"] == "dice_ratio"}
    assert found == {
        f"{arm} / R-all" for arm in ("S-2", "S-all", "S-all teacher", "R-all teacher", "R-all+S-all", "S-all>R-all")
    }


def test_corrected_p_values_are_never_smaller(finished: Path) -> None:
    for item in json.loads((finished / "comparisons.json").read_text()):
        assert item["p_holm"] >= item["p"]


def test_the_page_needs_no_other_file(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    assert "data:image/png;base64," in text
    assert "S-all&gt;R-2" in text
    assert 'src="http' not in text


def test_a_second_call_trains_nothing(datasets: Path, finished: Path) -> None:
    def times() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in (finished / "runs").rglob("*.safetensors")}

    before = times()
    compare(recipe(datasets, seeds=[0]), finished, "cpu")
    assert times() == before


def test_processes_train_side_by_side_what_is_not_done(datasets: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*.safetensors")}
    told = []
    two = recipe(datasets, arms=["real", "teacher"], real_patients=[0], synthetic_images=[0])
    outcome = compare(two, finished, "cpu", lambda done, what: told.append(done), workers=2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {item["arm"] for item in outcome.records if item["metric"] == "dice"} == {
        "R-all", "S-all teacher", "R-all teacher"
    }  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == updates(two, finished)[1] == 12


def test_an_error_in_a_process_is_the_error_of_the_comparison(datasets: Path, tmp_path: Path) -> None:
    wild = recipe(datasets, arms=["real"], real_patients=[0], seeds=[0], train={**TRAIN, "lr": 1e30, "updates": 20})
    with pytest.raises(NotFiniteError, match="the loss is"):
        compare(wild, tmp_path / "out", "cpu", workers=2)


def test_ctrl_c_leaves_a_checkpoint_of_every_running_run(datasets: Path, tmp_path: Path) -> None:
    long = recipe(datasets, arms=["real"], real_patients=[0], train={**TRAIN, "updates": 5000})

    def stop_when_both_run(done: int, what: str) -> None:
        if sum(log.stat().st_size > 0 for log in (tmp_path / "runs").glob("*/segment_log.jsonl")) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(long, tmp_path, "cpu", stop_when_both_run, workers=2)
    assert len(list((tmp_path / "runs").glob("*/segment.ckpt"))) == 2
    assert not multiprocessing.active_children()


def test_other_settings_train_other_runs(datasets: Path, finished: Path) -> None:
    run = Run(0, real=2)
    first, other = (Grid(recipe(datasets, train={**TRAIN, "lr": lr}), finished).folder(run) for lr in (1e-3, 2e-3))
    assert first != other


def test_images_without_a_patient_count_as_one_each(datasets: Path, tmp_path: Path) -> None:
    make(tmp_path / "real", splits="tttvs", rows={i: {"patient": ""} for i in range(5)})
    body = {"real": tmp_path / "real", "tests": [{"data": tmp_path / "real"}], "synthetic": tmp_path / "nowhere"}
    small = recipe(datasets, **body, arms=["real"], seeds=[0])  # an arm that is not there needs no images
    outcome = compare(small, tmp_path / "out", "cpu")
    assert {point["arm"]: point["images"] for point in outcome.curves} == {"R-2": 2, "R-all": 3}


def test_synthetic_images_are_said_to_equal_a_number_of_real_patients(finished: Path) -> None:
    records = json.loads((finished / "compare.json").read_text())
    found = {item["arm"]: item for item in records if item["metric"] == "real_equivalents"}
    assert set(found) == {"S-2", "S-all", "S-all teacher"}
    assert all(2 <= item["value"] <= 4 and item["sign"] in "<=>" for item in found.values())


def test_what_is_done_is_not_waited_for_again(datasets: Path, finished: Path, tmp_path: Path) -> None:
    small = recipe(datasets, seeds=[0])
    assert updates(small, finished) == (19, 19)
    assert updates(small, tmp_path) == (19, 0)


def test_a_test_image_of_a_training_patient_is_refused(datasets: Path, tmp_path: Path) -> None:
    make(tmp_path / "leak", splits="ts", rows={1: {"patient": "p1"}})
    with pytest.raises(MismatchError, match="clinic/p1 is in two splits"):
        compare(recipe(datasets, tests=[{"data": tmp_path / "leak"}]), tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def test_an_empty_test_split_is_refused_before_anything_is_trained(datasets: Path, tmp_path: Path) -> None:
    make(tmp_path / "untested", splits="tv")
    with pytest.raises(UsageError, match="untested has no image in split 'test'"):
        compare(recipe(datasets, tests=[{"data": tmp_path / "untested"}]), tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def test_more_patients_than_there_are_are_refused_before_anything_is_trained(datasets: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="9 patients were asked for"):
        compare(recipe(datasets, mixed_patients=[9]), tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_dataset_is_refused_before_anything_is_trained(datasets: Path, tmp_path: Path) -> None:
    root = make(tmp_path / "half")
    (root / "shards/00001.json").unlink()
    with pytest.raises(MismatchError, match="unfinished shard"):
        compare(recipe(datasets, synthetic=root), tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def test_datasets_with_different_classes_are_refused_before_anything_is_trained(datasets: Path, tmp_path: Path) -> None:
    root = make(tmp_path / "lungs", classes={"right_lung": 1, "left_lung": 2})
    with pytest.raises(UsageError) as error:
        compare(recipe(datasets, synthetic=root), tmp_path / "out", "cpu")
    assert "right_lung,left_lung" in error.value.hint
    assert not (tmp_path / "out").exists()


def test_an_arm_with_synthetic_images_needs_their_folder(datasets: Path) -> None:
    with pytest.raises(ValueError, match="synthetic"):
        recipe(datasets, synthetic=None)


def test_a_comparison_does_not_write_into_its_datasets(datasets: Path) -> None:
    with pytest.raises(UsageError, match="what is read"):
        compare(recipe(datasets), datasets / "real" / "out", "cpu")


def test_one_training_is_not_said_to_be_a_mean_over_seeds(datasets: Path, finished: Path) -> None:
    for name in ("compare.md", "report.html"):
        text = (finished / name).read_text()
        assert "one training of each arm" in text
        assert "patients and seeds" not in text
    assert "2 trainings of each arm" in intro(recipe(datasets))


def test_a_name_is_text_in_the_plot_and_in_the_tables() -> None:
    point = {"kind": "real", "arm": "R-all", "images": 3, "value": 0.5, "lo": 0.4, "hi": 0.6}
    assert plot_of([{**point, "test": "$\\frac$ <b>"}]).startswith(b"\x89PNG")
    assert html_table([["<b>"]]) == "<table><tr><th>&lt;b&gt;</th></tr></table>"


def test_a_typo_in_the_recipe_names_the_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("real: a\nsynthetic: b\ntests: [{data: a}]\ntrain: {updats: 3}\n")
    with pytest.raises(RecipeError, match=r"train\.updats"):
        load(path)


def test_the_bundled_comparison_can_be_loaded() -> None:
    assert load(Path("compare/lung"), {"train.updates": 7}).train.updates == 7


@pytest.fixture(scope="module")
def several(datasets: Path) -> CompareRecipe:
    """Two arms that need datasets of their own: pseudo-labels, and synthetic images made with two patients' masks."""
    make(datasets / "unlabelled", splits="tt", source="unlabelled")
    return recipe(
        datasets, seeds=[0], synthetic=None, arms=["real", "synthetic", "mixed", "pseudo"], real_patients=[2, 0],
        also={"few": {"data": datasets / "generated", "patients": [2], "made_with": 2}},
        unlabelled=datasets / "unlabelled",
    )  # fmt: skip


def test_the_network_that_makes_pseudo_labels_has_seen_the_same_patients(
    several: CompareRecipe, tmp_path: Path
) -> None:
    grid = Grid(several, tmp_path)
    for count in (2, 0):
        assert grid.needs(Run(0, real=count, pseudo=True)) == [Run(0, real=count)]


def test_further_synthetic_images_and_pseudo_labels_are_arms_beside_the_same_real_images(
    several: CompareRecipe, tmp_path: Path
) -> None:
    outcome = compare(several, tmp_path, "cpu")
    arms = {item["arm"] for item in outcome.records if item["metric"] == "dice"}
    assert arms == {"R-2", "R-all", "S-all few", "R-2+S-all few", "R-2+pseudo", "R-all+pseudo"}
    pairs = {(item["arm"], item["against"]) for item in outcome.comparisons}
    assert {("R-2+S-all few", "R-2"), ("R-2+S-all few", "R-2+pseudo"), ("S-all few", "R-all")} <= pairs
    places = {(point["arm"], point["images"]) for point in outcome.curves}
    assert {("S-all few", 2), ("R-2+S-all few", 2), ("R-2+pseudo", 2)} <= places


def test_a_patient_of_the_unlabelled_images_is_in_no_test(
    datasets: Path, several: CompareRecipe, tmp_path: Path
) -> None:
    make(datasets / "leaking", splits="t", rows={0: {"patient": "p5"}})  # a test patient
    with pytest.raises(MismatchError, match="two splits"):
        compare(several.model_copy(update={"unlabelled": datasets / "leaking"}), tmp_path, "cpu")


def test_pseudo_labels_need_unlabelled_images(datasets: Path) -> None:
    with pytest.raises(ValidationError, match="unlabelled: name a dataset"):
        recipe(datasets, arms=["real", "pseudo"])
