"""The recipes of the few-label comparison fit each other, and its check finds a mask of somebody else."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.few import check
from cxrsynth.auxiliary_files import AUXILIARY
from cxrsynth.compare import load
from cxrsynth.errors import MismatchError
from cxrsynth.factory.subset import Part, take_part
from cxrsynth.recipe import load as load_recipe
from cxrsynth.recipe.settings import load_as
from cxrsynth.train.tasks.diffusion.config import DiffusionRecipe
from tests.train.chests import make


def head(path: Path, keys: list[str]) -> None:
    about = {"format": AUXILIARY["head"].format, "training": {"keys": keys}}
    save_file({"weight": np.zeros(1, np.float32)}, path, {"cxrsynth": json.dumps(about)})


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return make(tmp_path / "real", splits="ttttv")


def test_the_check_accepts_parts_of_the_same_patients(real: Path, tmp_path: Path) -> None:
    take_part(real, tmp_path / "2/data", Part(masks=2))
    keys = [path.stem for path in (tmp_path / "2/data/masks").rglob("*.png")]
    head(tmp_path / "2/mask_head.safetensors", keys)
    assert check(tmp_path / "2", real) == 2


def test_a_mask_head_that_has_seen_somebody_else_is_found(real: Path, tmp_path: Path) -> None:
    take_part(real, tmp_path / "2/data", Part(masks=2))
    head(tmp_path / "2/mask_head.safetensors", ["000", "001", "002", "003"])
    with pytest.raises(MismatchError, match="the mask head"):
        check(tmp_path / "2", real)


def test_a_real_arm_of_other_patients_is_found(real: Path, tmp_path: Path) -> None:
    take_part(real, tmp_path / "2/data", Part(masks=3))
    head(tmp_path / "2/mask_head.safetensors", [])
    with pytest.raises(MismatchError, match="the real arm"):
        check(tmp_path / "2", real)


def test_the_recipes_of_the_comparison_load_and_name_the_same_classes() -> None:
    comparison, images = load(Path("compare/few")), load_recipe(Path("recipes/bench/few.yaml"))
    grounding = load_as(DiffusionRecipe, Path("train/few")).grounding
    assert list(comparison.train.classes) == [item.name for item in images.classes] == list(grounding.phrases)


def test_every_number_of_patients_has_its_real_arm() -> None:
    comparison = load(Path("compare/few"))
    assert [one.patients for one in comparison.also.values()] == [(n,) for n in comparison.real_patients]
