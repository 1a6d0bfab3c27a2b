"""A whole comparison in small: every arm, every table, and no cell trained twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from cxrsynth.compare import CompareRecipe, compare, load, updates, write_report
from cxrsynth.compare.cells import Cell, Laboratory, plan
from cxrsynth.errors import MismatchError, RecipeError, UsageError
from tests.train.chests import make

TRAIN = {
    "encoder": "tu-mobilenetv3_small_050", "options": {"decoder_channels": [16, 8, 8, 8, 8]}, "size": 64, "batch": 2,
    "updates": 2, "warmup": 1,
}  # fmt: skip


def recipe(root: Path, **changes: Any) -> CompareRecipe:
    body = {
        "name": "chests", "real": root / "real", "synthetic": root / "drawn", "tests": [{"data": root / "real"}],
        "real_patients": [2, 0], "synthetic_films": [2, 0], "seeds": [0, 1], "train": TRAIN,
    }  # fmt: skip
    return CompareRecipe.model_validate({**body, **changes})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    make(root / "real", splits="ttttvsss")
    make(root / "drawn", splits="ttttv", source="drawn")
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
    cells = plan(small)
    halves = {cell.order: cell.updates(small) for cell in cells}
    assert halves == {"mixed": 7, "first": 3, "then": 4}


def test_no_cell_needs_a_later_one(datasets: Path) -> None:
    cells = plan(recipe(datasets))
    teacher = next(i for i, cell in enumerate(cells) if cell.teacher)
    assert cells.index(Cell(0, real=0)) < teacher
    for i, cell in enumerate(cells):
        if cell.order == "then":
            assert Cell(cell.seed, synthetic=cell.synthetic, order="first") in cells[:i]


def test_all_results_are_written(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if path.is_file()}
    assert names == {"compare.json", "compare.csv", "compare.md", "comparisons.json", "curves.png", "report.html"}


def test_every_arm_has_dice_of_every_class_with_an_interval(finished: Path) -> None:
    records = [item for item in json.loads((finished / "compare.json").read_text()) if item["metric"] == "dice"]
    arms = {"R-2", "R-all", "S-2", "S-all", "R-2+S-all", "R-all+S-all", "S-all>R-2", "S-all>R-all", "S-all teacher"}
    assert {item["arm"] for item in records} == arms
    assert {item["class"] for item in records} == {"right_lung", "left_lung", "heart", "mean"}
    assert all(item["lo"] <= item["value"] <= item["hi"] and item["n"] == 3 for item in records)


def test_synthetic_films_are_compared_with_all_real_ones_and_with_the_teachers_masks(finished: Path) -> None:
    pairs = {(item["arm"], item["against"]) for item in json.loads((finished / "comparisons.json").read_text())}
    assert {("S-all", "R-all"), ("R-2+S-all", "R-2"), ("S-all>R-2", "R-2+S-all"), ("S-all teacher", "S-all")} <= pairs


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
        return {str(path): path.stat().st_mtime_ns for path in (finished / "cells").rglob("*.safetensors")}

    before = times()
    compare(recipe(datasets, seeds=[0]), finished, "cpu")
    assert times() == before


def test_other_settings_train_other_cells(datasets: Path, finished: Path) -> None:
    cell = Cell(0, real=2)
    first, other = (
        Laboratory(recipe(datasets, train={**TRAIN, "lr": lr}), finished).folder(cell) for lr in (1e-3, 2e-3)
    )
    assert first != other


def test_films_without_a_patient_count_as_one_each(datasets: Path, tmp_path: Path) -> None:
    make(tmp_path / "real", splits="tttvs", rows={i: {"patient": ""} for i in range(5)})
    small = recipe(datasets, real=tmp_path / "real", tests=[{"data": tmp_path / "real"}], arms=["real"], seeds=[0])
    outcome = compare(small, tmp_path / "out", "cpu")
    assert {point["arm"]: point["films"] for point in outcome.curves} == {"R-2": 2, "R-all": 3}


def test_synthetic_films_are_said_to_equal_a_number_of_real_patients(finished: Path) -> None:
    records = json.loads((finished / "compare.json").read_text())
    found = {item["arm"]: item for item in records if item["metric"] == "real_equivalents"}
    assert set(found) == {"S-2", "S-all", "S-all teacher"}
    assert all(2 <= item["value"] <= 4 and item["sign"] in "<=>" for item in found.values())


def test_what_is_done_is_not_waited_for_again(datasets: Path, finished: Path, tmp_path: Path) -> None:
    small = recipe(datasets, seeds=[0])
    assert updates(small, finished) == (17, 17)
    assert updates(small, tmp_path) == (17, 0)


def test_a_test_film_of_a_training_patient_is_refused(datasets: Path, tmp_path: Path) -> None:
    make(tmp_path / "leak", splits="ts", rows={1: {"patient": "p1"}})
    leaking = recipe(datasets, tests=[{"data": tmp_path / "leak"}], arms=["real"], real_patients=[0], seeds=[0])
    with pytest.raises(MismatchError, match="clinic/p1 was in the training"):
        compare(leaking, tmp_path / "out", "cpu")


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


def test_a_typo_in_the_recipe_names_the_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("real: a\nsynthetic: b\ntests: [{data: a}]\ntrain: {updats: 3}\n")
    with pytest.raises(RecipeError, match=r"train\.updats"):
        load(path)


def test_the_bundled_comparison_can_be_loaded() -> None:
    assert load(Path("compare/lung"), {"train.updates": 7}).train.updates == 7
