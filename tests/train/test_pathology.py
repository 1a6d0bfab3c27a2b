"""The pathology adapter learns regions, resumes exactly, belongs to one model and is off until a finding is made."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from cxrsynth.data.finding_zones import sentence
from cxrsynth.data.places import Place
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.nets.pathology import Adapter, attach
from cxrsynth.store import Store
from cxrsynth.train.tasks.pathology import training as pathology
from cxrsynth.train.tasks.pathology.config import PathologyConfig
from cxrsynth.train.tasks.pathology.training import train_pathology
from cxrsynth.weights import resolve
from tests.conftest import cli
from tests.labeller import by_tone
from tests.train import chests

TINY = PathologyConfig(
    findings={"pneumonia": ("pneumonia",)},
    places={"pneumonia": ("lower zone",)},
    bright=-50.0,  # every zone of the one image that has it
    targets=("to_q", "to_k"),
    rank=2,
    batch=2,
    updates=4,
    warmup=1,
    variants=2,
    checkpoint_minutes=1e-6,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    said = {i: {"findings": "normal" if i else "pneumonia"} for i in range(8)}
    return chests.make(tmp_path_factory.mktemp("data") / "chests", rows=said)


@pytest.fixture(scope="module", autouse=True)
def segmenter() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(pathology, "load", lambda folder, device: by_tone())
    yield
    patch.undo()


def train(data: Path, tiny: Path, out: Path, config: PathologyConfig = TINY, **options: object) -> dict[str, object]:
    return train_pathology(data, out, resolve(str(tiny)), config, Path("unused"), "cpu", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def weights(data: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pathology") / "a.safetensors"
    train(data, tiny, out)
    return out


def test_a_broken_training_goes_on_to_the_same_weights(data: Path, tiny: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.safetensors"

    def break_off(done: int, total: int, values: dict[str, float]) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tiny, out, on_step=break_off)
    seen: list[int] = []
    train(data, tiny, out, on_step=lambda done, total, values: seen.append(done))
    assert seen[0] == 3
    assert out.read_bytes() == weights.read_bytes()


def test_another_config_does_not_go_on_with_the_old_checkpoint(data: Path, tiny: Path, weights: Path) -> None:
    with pytest.raises(MismatchError):
        train(data, tiny, weights, TINY.model_copy(update={"lr": 0.5}))


def test_images_without_words_of_findings_are_an_error(tiny: Path, tmp_path: Path) -> None:
    bare = chests.make(tmp_path / "bare")
    with pytest.raises(UsageError, match="no finished image of split train that fits"):
        train(bare, tiny, tmp_path / "b.safetensors")


def test_the_prompt_of_a_region_names_finding_and_place(data: Path) -> None:
    row = {"prompt": "Frontal chest X-ray, AP view, of a 40-year-old man. Findings: no finding.", "view": "AP"}
    sick, clear = Place(0, "effusion", "left lower zone"), Place(0, "", "left lower zone")
    said = "Findings: effusion in the left lower zone."
    assert sentence(row, sick, plain=False) == f"Frontal chest X-ray, AP view, of a 40-year-old man. {said}"
    assert sentence(row, sick, plain=True) == f"Frontal chest X-ray, AP view. {said}"
    assert sentence(row, clear, plain=True) == "Frontal chest X-ray, AP view. Findings: no finding."


def unet(tiny: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny, subfolder="unet")


@torch.no_grad()
def answer(net: UNet2DConditionModel) -> np.ndarray:
    draw = torch.Generator().manual_seed(0)
    x, words = torch.randn(1, 4, 16, 16, generator=draw), torch.randn(1, 8, 32, generator=draw)
    return net(x, torch.tensor([500]), encoder_hidden_states=words).sample.numpy()


def test_it_changes_what_the_model_says_inside_the_block_only(tiny: Path, weights: Path) -> None:
    net = unet(tiny)
    before = answer(net)
    adapter = attach(weights, net, resolve(str(tiny)).digest)
    np.testing.assert_array_equal(answer(net), before)
    with adapter.active():
        assert np.abs(answer(net) - before).max() > 1e-6
    np.testing.assert_array_equal(answer(net), before)


def test_a_new_adapter_changes_nothing_yet(tiny: Path) -> None:
    net = unet(tiny)
    before = answer(net)
    with Adapter(net, 2, ["to_q"]).active():
        np.testing.assert_allclose(answer(net), before, atol=1e-6)


def test_an_adapter_of_another_model_is_refused(tiny: Path, weights: Path) -> None:
    with pytest.raises(MismatchError, match="another model"):
        attach(weights, unet(tiny), "0" * 64)


def test_only_training_images_are_read(data: Path, tiny: Path, weights: Path) -> None:
    with np.load(weights.with_suffix(".images.npz")) as kept:
        count = sum(row["split"] == "train" for row in Store(data).rows())
        assert len(kept["masks"]) == count == kept["latents"].shape[1]


def test_the_command_names_the_settings_it_knows(data: Path, tmp_path: Path) -> None:
    asked = cli("train-pathology", data, "-w", tmp_path, "-o", tmp_path / "a.safetensors", "--set", "stepz=3")
    assert asked.returncode == 2
    assert "elsewhere" in asked.stderr
