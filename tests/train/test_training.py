"""Training from images to a pipeline folder, in small."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from cxrsynth.errors import MismatchError, MissingError, RecipeError
from cxrsynth.nets import bundle
from cxrsynth.nets.autoencoder import decode, encode
from cxrsynth.store import Store
from cxrsynth.train.autoencoder import train_decoder, train_vae, whiten
from cxrsynth.train.config import TrainRecipe, load
from cxrsynth.train.diffusion import train_diffusion, weigh
from tests.train.images import make

SMALL: dict[str, Any] = {
    "name": "small",
    "vae": {"block_out_channels": (8, 8, 8, 8), "norm_groups": 4, "steps": 3, "batch": 2, "crop": 32},
    "text": {"vocabulary": 560, "width": 16, "layers": 1, "heads": 2},
    "unet": {"block_out_channels": (8, 16, 16), "head_dim": 8, "norm_groups": 4},
    "diffusion": {
        "steps": 4, "batch": 4, "validation_images": 2, "sheet_every": 100, "sheet_steps": 1,
        "sheet_prompts": ["heart"],
        "shares": {"a": 0.5, "b": 0.5}, "warmup": 1,
    },
    "grounding": {"images_per_batch": 2},
}  # fmt: skip


def recipe(**diffusion: Any) -> TrainRecipe:
    return TrainRecipe.model_validate({**SMALL, "diffusion": {**SMALL["diffusion"], **diffusion}})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with autoencoder and model."""
    run = tmp_path_factory.mktemp("run")
    train_vae(images, run, recipe().vae, "cpu")
    train_diffusion(images, run, recipe(), "cpu")
    return run


def stop_after(steps: int) -> Callable[[int, int, dict[str, float]], None]:
    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        if done == steps:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    return on_step


def test_the_result_is_a_stable_diffusion_folder_that_draws(trained: Path) -> None:
    whole = StableDiffusionPipeline.from_pretrained(trained / "model", torch_dtype=torch.float32)
    whole.set_progress_bar_config(disable=True)
    picture = whole("right lung", num_inference_steps=1, output_type="np").images
    assert picture.shape == (1, 64, 64, 1)
    assert np.isfinite(picture).all()


def test_the_folder_does_not_tell_where_it_was_trained(trained: Path) -> None:
    for path in (trained / "model").rglob("*.json"):
        assert str(trained) not in path.read_text()


def test_weights_are_half_precision(trained: Path) -> None:
    from safetensors import safe_open

    with safe_open(next((trained / "model/unet").glob("*.safetensors")), "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_no_weight_file_is_above_the_limit_and_all_parts_load_back(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "SHARD_BYTES", 20_000)
    whole = StableDiffusionPipeline.from_pretrained(trained / "model", torch_dtype=torch.float16)
    bundle.save(tmp_path / "model", whole)
    for part in ("unet", "text_encoder"):
        files = list((tmp_path / "model" / part).glob("*.safetensors"))
        assert len(files) > 1
        tensors = len(load_file(max(files, key=lambda file: file.stat().st_size)))
        assert tensors == 1 or max(file.stat().st_size for file in files) < 30_000
    again = StableDiffusionPipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.float16)
    for part in ("unet", "text_encoder"):
        for name, value in getattr(whole, part).state_dict().items():
            assert torch.equal(value, getattr(again, part).state_dict()[name])


@pytest.mark.parametrize("part", ["vae", "diffusion"])
def test_a_killed_training_resumes_to_the_same_weights(part: str, images: Path, trained: Path, tmp_path: Path) -> None:
    run: Path = tmp_path / "run"

    def train(on_step: Any = None) -> None:
        if part == "vae":
            train_vae(images, run, recipe().vae, "cpu", on_step=on_step)
        else:
            train_diffusion(images, run, recipe(), "cpu", on_step)

    if part == "diffusion":
        run.mkdir()
        (run / "vae").symlink_to(trained / "vae")
    with pytest.raises(KeyboardInterrupt):
        train(stop_after(2))
    train()
    ours, theirs = (torch.load(folder / f"{part}.ckpt", weights_only=True) for folder in (run, trained))
    assert ours["step"] == theirs["step"]
    name = "model" if part == "vae" else "denoiser"
    for key, value in theirs["parts"][name].items():
        assert torch.equal(ours["parts"][name][key], value), key
    logs = [(folder / f"{part}_log.jsonl").read_text().splitlines() for folder in (run, trained)]
    assert [json.loads(line) for line in logs[0]] == [json.loads(line) for line in logs[1]]


def test_resuming_with_another_recipe_is_refused(images: Path, trained: Path) -> None:
    with pytest.raises(MismatchError):
        train_diffusion(images, trained, recipe(lr=1e-5), "cpu")


def test_more_steps_may_be_asked_for_later(images: Path, tmp_path: Path) -> None:
    config = recipe().vae
    train_vae(images, tmp_path, config, "cpu")
    train_vae(images, tmp_path, config.model_copy(update={"steps": 4}), "cpu")
    assert len((tmp_path / "vae_log.jsonl").read_text().splitlines()) == 4


def test_training_without_an_autoencoder_says_what_to_type(images: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError) as error:
        train_diffusion(images, tmp_path, recipe(), "cpu")
    assert "train-vae" in error.value.hint


def test_grounding_without_masks_is_refused(images: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").symlink_to(trained / "vae")
    with pytest.raises(RecipeError, match="masks"):
        train_diffusion(images, tmp_path, recipe(shares={"b": 1.0}), "cpu")


def test_an_image_of_an_external_test_set_is_never_trained_on(images: Path) -> None:
    from cxrsynth.data.dataset import groundable, trainable

    row = next(Store(images).rows())
    assert trainable(row)
    assert groundable(row)
    assert not trainable({**row, "use": "test"})
    assert not groundable({**row, "mask_use": "benchmark"})


def test_whitening_changes_latents_but_no_picture(trained: Path, images: Path) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(trained / "vae").eval()
    pictures = np.stack([Store(images).load_image(row) for row in Store(images).rows()])
    before = decode(vae, encode(vae, pictures)).astype(int)
    with torch.no_grad():
        vae.quant_conv.weight *= 3
        vae.quant_conv.bias *= 3
        vae.post_quant_conv.weight /= 3
    whiten(vae, pictures)
    latents = encode(vae, pictures)
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=0.05)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=0.05)
    assert np.abs(decode(vae, latents).astype(int) - before).mean() < 1.5


def test_training_the_decoder_further_leaves_the_latents_alone(trained: Path, images: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    shutil.copytree(trained / "vae", tmp_path / "vae")
    train_decoder(images, tmp_path, recipe().vae.model_copy(update={"decoder_steps": 2}), "cpu")
    pictures = np.stack([Store(images).load_image(row) for row in Store(images).rows()])
    before, after = (AutoencoderKL.from_pretrained(folder / "vae").eval() for folder in (trained, tmp_path))
    latents = encode(before, pictures)
    assert torch.equal(encode(after, pictures), latents)
    assert not np.array_equal(decode(after, latents), decode(before, latents))


def test_a_killed_decoder_resumes_to_the_same_weights_and_then_rests(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    config = recipe().vae.model_copy(update={"decoder_steps": 4})
    for name in ("whole", "killed"):
        shutil.copytree(trained / "vae", tmp_path / name / "vae")
    train_decoder(images, tmp_path / "whole", config, "cpu")
    with pytest.raises(KeyboardInterrupt):
        train_decoder(images, tmp_path / "killed", config, "cpu", on_step=stop_after(1))
    with pytest.raises(MismatchError):
        train_decoder(images, tmp_path / "killed", config.model_copy(update={"decoder_lr": 1e-3}), "cpu")
    steps: list[int] = []
    for _ in range(2):
        train_decoder(images, tmp_path / "killed", config, "cpu", on_step=lambda done, *_: steps.append(done))
    assert steps == [3, 4]  # and nothing the second time
    ours, theirs = (next((tmp_path / name / "vae").glob("*.safetensors")) for name in ("killed", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_other_settings_start_a_further_round_of_the_decoder(trained: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "vae", tmp_path / "vae")
    config = recipe().vae.model_copy(update={"decoder_steps": 1})
    steps: list[int] = []
    for crop in (32, 64):
        changed = config.model_copy(update={"crop": crop})
        train_decoder(images, tmp_path, changed, "cpu", on_step=lambda done, *_: steps.append(done))
    assert steps == [1, 1]


def test_the_last_timestep_counts() -> None:
    weights = weigh(torch.tensor([0, 500, 999]), 5.0)
    assert weights[2] == pytest.approx(1.0)
    assert weights[0] < 0.1


def test_a_typo_in_the_recipe_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("diffusion: {stepps: 10}")
    with pytest.raises(RecipeError, match=r"diffusion\.stepps"):
        load(path)


def test_the_shipped_recipe_can_be_loaded() -> None:
    path = Path(__file__).parents[2] / "recipes/train/mini.yaml"
    assert load(path, {"diffusion.steps": 7}).diffusion.steps == 7
