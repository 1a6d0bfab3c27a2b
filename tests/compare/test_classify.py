"""A whole comparison of classifiers in small, and its statistics on scores whose answer is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cxrsynth.compare import updates
from cxrsynth.compare.classify import ClassifyGrid, Scores, compare_classifiers, conclude, with_mean
from cxrsynth.compare.classify_recipe import ClassifyRecipe, load
from cxrsynth.compare.grid import Run
from cxrsynth.compare.recipe import TestSet
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.results import Record
from cxrsynth.statistics import auroc
from tests.train.test_classify import ENCODER, make

TRAIN = {"encoder": ENCODER, "labels": ["AP", "effusion"], "size": 32, "batch": 2, "updates": 2, "warmup": 1}


def recipe(root: Path, **changes: Any) -> ClassifyRecipe:
    body = {
        "name": "small", "real": root / "real", "synthetic": root / "generated", "tests": [{"data": root / "real"}],
        "synthetic_images": [6, 0], "seeds": [0], "train": TRAIN,
    }  # fmt: skip
    return ClassifyRecipe.model_validate({**body, **changes})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    make(root / "real")
    make(root / "generated", source="generated")
    return root


@pytest.fixture(scope="module")
def finished(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    out = tmp_path_factory.mktemp("out")
    return out, compare_classifiers(recipe(datasets), out, "cpu")


def test_every_arm_has_an_auroc_of_every_label_and_their_mean(finished: tuple[Path, list[Record]]) -> None:
    found = {(item["arm"], item["class"]) for item in finished[1] if item["metric"] == "auroc"}
    arms = ("R-all", "S-6", "S-all", "R-all+S-all", "S-all>R-all")
    assert found == {(arm, label) for arm in arms for label in ("AP", "effusion", "mean")}


def test_arms_with_synthetic_images_are_set_against_the_real_ones(finished: tuple[Path, list[Record]]) -> None:
    found = {item["arm"] for item in finished[1] if item["metric"] == "auroc_difference"}
    assert found == {f"{arm} - R-all" for arm in ("S-6", "S-all", "R-all+S-all", "S-all>R-all")}


def test_synthetic_images_alone_are_set_against_every_number_of_real_ones(tmp_path: Path) -> None:
    runs = [Run(0, real=4), Run(0, real=0), Run(0, synthetic=0), Run(0, real=4, synthetic=0)]
    rng = np.random.default_rng(0)
    images = [
        {"patient": str(i), "source": "a", "truth": [float(i % 2)], "scores": rng.random(1).tolist()} for i in range(20)
    ]

    class Told(ClassifyGrid):
        def figures(self, run: Run, test: TestSet) -> dict[str, Any]:
            return {"labels": ["AP"], "images": images}

    small = recipe(tmp_path)
    records = conclude(Told(small, tmp_path), runs, small.tests[0])
    found = {item["arm"] for item in records if item["metric"] == "auroc_difference"}
    assert found == {"S-all - R-4", "S-all - R-all", "R-4+S-all - R-4"}


def test_a_second_call_trains_nothing(datasets: Path, finished: tuple[Path, list[Record]]) -> None:
    out, records = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert updates(recipe(datasets), out) == (10, 10)
    again = compare_classifiers(recipe(datasets), out, "cpu")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert [item["value"] for item in again] == [item["value"] for item in records]


def test_a_label_that_synthetic_images_lack_is_refused_before_anything_is_trained(
    datasets: Path, tmp_path: Path
) -> None:
    small = recipe(datasets, train={**TRAIN, "labels": ["hernia"]})
    with pytest.raises(UsageError):
        compare_classifiers(small, tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def test_labels_have_to_be_named_and_there_is_no_teacher(datasets: Path) -> None:
    with pytest.raises(ValidationError, match="name the labels"):
        recipe(datasets, train={**TRAIN, "labels": []})
    with pytest.raises(ValidationError, match="which a classifier has not"):
        recipe(datasets, arms=["real", "teacher"])


def test_the_bundled_comparison_can_be_loaded() -> None:
    assert load(Path("compare/findings"), {"train.updates": 7}).train.updates == 7


def scores(**arms: np.ndarray) -> Scores:
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 1)) < 0.5).astype(float)
    made = {arm: (truth.T[:, :, None] * shift[0] + rng.normal(size=(3, 200, 1))) for arm, shift in arms.items()}
    return Scores(["x"], truth, np.arange(200) // 2, np.zeros(200, int), made)


def test_a_better_arm_is_better_in_nearly_every_draw() -> None:
    found = scores(good=np.array([2.0]), poor=np.array([0.3])).draws(auroc, 100)
    assert found["good"][0][0] > found["poor"][0][0]
    assert ((found["good"][1] - found["poor"][1]) > 0).mean() > 0.97


def test_an_arm_differs_from_itself_by_nothing() -> None:
    one = scores(a=np.array([1.0]))
    both = Scores(one.labels, one.truth, one.patients, one.sources, {"a": one.arms["a"], "b": one.arms["a"]})
    found = both.draws(auroc, 20)
    assert np.array_equal(found["a"][1], found["b"][1])


def test_unknown_labels_do_not_count_in_the_mean() -> None:
    assert with_mean(np.array([[0.5, np.nan, 0.7]])).tolist()[0][-1] == pytest.approx(0.6)
    assert np.isnan(with_mean(np.array([np.nan, np.nan]))[-1])


def test_runs_have_the_names_of_their_arms() -> None:
    assert Run(0, real=0, synthetic=6, order="then").arm == "S-6>R-all"
