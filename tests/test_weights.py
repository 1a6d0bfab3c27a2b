"""Models are found by name, folder or hub id; what is missing is named before anything heavy is loaded."""

import json
import shutil
from pathlib import Path

import pytest

from cxrsynth import weights
from cxrsynth.encoding import dumps
from cxrsynth.errors import MissingError, UsageError


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    """A copy of a model folder that may be spoiled."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def bundled(model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy as a bundled model named ``model``."""
    (model.parent / "model.sha256.json").write_bytes(dumps(weights.pin(model)))
    monkeypatch.setattr(weights, "MODELS", model.parent)
    return model


def test_the_digest_follows_the_bytes_not_the_place(model: Path, tmp_path: Path) -> None:
    before = weights.resolve(str(model)).digest
    moved = model.rename(tmp_path / "elsewhere")
    assert weights.resolve(str(moved)).digest == before
    config = moved / "unet/config.json"
    config.write_text(config.read_text() + "\n")
    assert weights.resolve(str(moved)).digest != before


def test_a_model_card_does_not_change_the_digest_but_tells_the_licence(model: Path) -> None:
    before = weights.resolve(str(model))
    (model / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# model\n")
    after = weights.resolve(str(model))
    assert (before.licence, after.licence) == ("", "cc-by-4.0")
    assert before.digest == after.digest


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(model: Path, part: str) -> None:
    shutil.rmtree(model / part)
    with pytest.raises(MissingError, match=part):
        weights.resolve(str(model))


def test_a_folder_without_weights_is_refused(model: Path) -> None:
    for file in (model / "unet").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(MissingError, match="no weights in unet"):
        weights.resolve(str(model))


def test_a_missing_shard_is_named(model: Path) -> None:
    index = model / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "part-2.safetensors"}}))
    with pytest.raises(MissingError, match=r"part-2\.safetensors"):
        weights.resolve(str(model))


def test_a_bundled_model_is_whole_or_refused(bundled: Path) -> None:
    assert weights.resolve("model").path == bundled
    file = next((bundled / "vae").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x01\x02")
    with pytest.raises(MissingError, match="pinned"):
        weights.resolve("model")


def test_an_unknown_name_lists_the_bundled_ones(bundled: Path) -> None:
    with pytest.raises(UsageError) as error:
        weights.resolve("modle")
    assert "did you mean 'model'" in error.value.hint


def test_a_hub_model_offline_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError) as error:
        weights.resolve("somebody/chest-model", offline=True)
    assert "huggingface-cli download somebody/chest-model" in error.value.hint
    assert error.value.exit_code == 4


def test_a_path_that_is_not_there_is_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        weights.resolve(str(tmp_path / "nowhere"))
