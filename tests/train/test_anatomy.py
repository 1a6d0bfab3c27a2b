"""The anatomy network learns to make images of label maps, says what it learned from, and resumes exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from cxrsynth.data.dataset import rows
from cxrsynth.data.label_maps import read
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.nets.anatomy import load
from cxrsynth.store import Store
from cxrsynth.train.checkpoint import step_rng
from cxrsynth.train.tasks.anatomy import training as anatomy
from cxrsynth.train.tasks.anatomy.config import AnatomyConfig
from cxrsynth.train.tasks.anatomy.training import make_batch, train_anatomy
from tests.conftest import cli
from tests.labeller import by_tone
from tests.train import chests

TINY = AnatomyConfig(widths=(8, 8, 16), middle=1, size=32, batch=4, updates=4, warmup=1, checkpoint_minutes=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chests.make(tmp_path_factory.mktemp("data") / "chests")


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("anatomy") / "a.safetensors"
    train_anatomy(data, out, TINY, device="cpu")
    return out


def test_a_broken_training_goes_on_to_the_same_weights(data: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.safetensors"

    def break_off(done: int, total: int, values: dict[str, float]) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_anatomy(data, out, TINY, device="cpu", on_step=break_off)
    seen: list[int] = []
    train_anatomy(data, out, TINY, device="cpu", on_step=lambda done, total, values: seen.append(done))
    assert seen[0] == 3
    assert out.read_bytes() == weights.read_bytes()


def test_another_config_does_not_go_on_with_the_old_checkpoint(data: Path, weights: Path) -> None:
    with pytest.raises(MismatchError):
        train_anatomy(data, weights, TINY.model_copy(update={"lr": 0.5}), device="cpu")


def test_it_learns_where_dark_lungs_lie(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    train_anatomy(data, out, TINY.model_copy(update={"updates": 60, "lr": 5e-3}), device="cpu")
    mask = chests.chest(7)[1]
    image = load(out).draw(np.stack([[mask == 1, mask == 2, mask == 3]]))[0, 0].numpy()
    assert image.shape == mask.shape
    assert image[mask == 3].mean() > image[mask == 0].mean() > image[(mask == 1) | (mask == 2)].mean() + 0.2


def test_half_of_the_items_map_an_image_to_itself(data: Path) -> None:
    images = read(Store(data), rows(data, ("train",)), TINY.classes)
    x, y = make_batch(images, None, TINY, step_rng(0, 0))
    gray, planes = x[:, 3:], x[:, :3]
    assert [bool((g == f).all()) for g, f in zip(gray, y, strict=True)] == [True, True, False, False]
    assert [bool(p.any()) for p in planes] == [False, False, True, True]


def test_images_of_a_segmenter_are_learned_from_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = chests.make(tmp_path / "mixed", rows={i: {"mask_use": ""} for i in range(3)})
    monkeypatch.setattr(anatomy, "load", lambda folder, device: by_tone())
    result = train_anatomy(mixed, tmp_path / "c.safetensors", TINY, tmp_path / "run", "cpu")
    assert (result["images_with_reference_masks"], result["images_labelled_by_a_segmenter"]) == (2, 3)
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        said = json.loads(file.metadata()["cxrsynth"])["training"]
    assert said["images_labelled_by_a_segmenter"] == 3
    assert said["segmenter_sha256"] == "f" * 64


def test_a_segmenter_that_lacks_a_class_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = chests.make(tmp_path / "mixed", rows={0: {"mask_use": ""}})
    monkeypatch.setattr(anatomy, "load", lambda folder, device: by_tone(("right_lung", "left_lung")))
    with pytest.raises(MismatchError, match="not heart"):
        train_anatomy(mixed, tmp_path / "d.safetensors", TINY, tmp_path / "run", "cpu")


def test_data_without_masks_of_all_classes_is_an_error(tmp_path: Path) -> None:
    bare = chests.make(tmp_path / "bare", classes={"right_lung": 1})
    with pytest.raises(UsageError, match="no training image with masks of"):
        train_anatomy(bare, tmp_path / "e.safetensors", TINY, device="cpu")


def test_the_sheet_and_the_curve_lie_beside_the_file(weights: Path) -> None:
    assert all((weights.parent / name).stat().st_size > 1000 for name in ("a.png", "a_curves.png"))


def test_the_command_names_the_settings_it_knows(data: Path, tmp_path: Path) -> None:
    asked = cli("train-anatomy", data, "-o", tmp_path / "a.safetensors", "--set", "stepz=3")
    assert asked.returncode == 2
    assert "gradient_weight" in asked.stderr
