"""The AffinityNet learns edges from attention, and its file works in a recipe."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cxrsynth.errors import MismatchError, MissingError, UsageError
from cxrsynth.masks.affinity import Affinity
from cxrsynth.masks.walk import offsets
from cxrsynth.nets.affinity import AffinityNet, features
from cxrsynth.nets.losses import affinity_loss
from cxrsynth.train.tasks.affinity.config import AffinityConfig
from cxrsynth.train.tasks.affinity.training import train_affinity
from tests import small_dataset
from tests.conftest import cli

TINY = AffinityConfig(size=64, crop=48, batch=2, updates=6, look_every=2, width=8, warmup=1, checkpoint_minutes=1e-6)


@pytest.fixture(scope="module")
def weights(phantom_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("affinity") / "a.safetensors"
    train_affinity(phantom_dataset, out, TINY, "cpu")
    return out


def test_a_broken_training_goes_on_to_the_same_weights(phantom_dataset: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.safetensors"

    def break_off(done: int, total: int, values: dict[str, float]) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_affinity(phantom_dataset, out, TINY, "cpu", break_off)
    seen: list[int] = []
    train_affinity(phantom_dataset, out, TINY, "cpu", lambda done, total, values: seen.append(done))
    assert seen[0] == 4
    assert out.read_bytes() == weights.read_bytes()


def test_another_config_does_not_go_on_with_the_old_checkpoint(phantom_dataset: Path, weights: Path) -> None:
    with pytest.raises(MismatchError):
        train_affinity(phantom_dataset, weights, TINY.model_copy(update={"width": 4}), "cpu")


def test_the_file_refines_a_picture_whose_sides_fit_no_grid(weights: Path) -> None:
    prob = np.random.default_rng(0).random((3, 50, 37)).astype(np.float32) / 3
    refined = Affinity(weights=str(weights))(np.zeros((50, 37), np.uint8), prob)
    assert refined.shape == prob.shape
    assert refined.sum(axis=0).max() <= 1 + 1e-4
    assert features(weights, np.zeros((50, 37), np.uint8)).shape == (8, 13, 10)


def test_a_file_that_is_no_affinity_net_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(MissingError, match="affinity weights"):
        features(path, np.zeros((32, 32), np.uint8))


def test_a_pilot_without_maps_is_an_error_that_says_how_to_keep_them(tmp_path: Path) -> None:
    pilot = small_dataset.make(tmp_path / "pilot")
    with pytest.raises(UsageError) as caught:
        train_affinity(pilot, tmp_path / "a.safetensors", TINY, "cpu")
    assert "keep_maps" in caught.value.hint


def test_like_places_cost_nothing_and_unlike_ones_nothing_once_they_differ() -> None:
    seeds = torch.zeros(1, 8, 8, dtype=torch.uint8)
    seeds[:, :, 4:] = 1
    alike, apart = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    apart[..., 4:] = 20
    good, bad = (affinity_loss(one, seeds, offsets(TINY.radius)) for one in (apart, alike))
    assert good["loss"] < 1e-3 < bad["loss"]
    assert (bad["same"], bad["different"]) == (1, 1)


def test_disputed_places_teach_nothing() -> None:
    seeds = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    assert affinity_loss(torch.randn(1, 2, 8, 8), seeds, offsets(TINY.radius))["loss"] == 0


@pytest.mark.parametrize("stride", [4, 8])
def test_the_network_sees_one_place_per_stride(stride: int) -> None:
    assert AffinityNet(stride=stride).eval()(torch.zeros(1, 1, 64, 96)).shape == (1, 32, 64 // stride, 96 // stride)


def test_the_command_names_the_settings_it_knows(phantom_dataset: Path, tmp_path: Path) -> None:
    asked = cli("train-affinity", phantom_dataset, "-o", tmp_path / "a.safetensors", "--set", "stepz=3")
    assert asked.returncode == 2
    assert "look_every" in asked.stderr
