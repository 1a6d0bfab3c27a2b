"""Training from nothing: the autoencoder, then a fresh denoiser on its latents, to a pipeline folder."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from cxrsynth.errors import MismatchError, MissingError, RecipeError
from cxrsynth.nets import bundle
from cxrsynth.nets.autoencoder import decode, encode, whiten
from cxrsynth.recipe.settings import load_as
from cxrsynth.store import Store
from cxrsynth.train.recipe import ModelRecipe
from cxrsynth.train.tasks.diffusion.training import train_diffusion
from cxrsynth.train.tasks.vae.training import train_vae
from tests.train.images import make

SMALL: dict[str, Any] = {
    "name": "small",
    "shard_mib": 1,
    "vae": {"block_out_channels": (8, 8, 8, 8), "norm_groups": 4, "latent_channels": 4, "updates": 6, "batch": 2,
            "crop": 32, "whole_every": 2, "look_every": 3, "perceptual_weight": 0, "ema": 0.5, "decoder_from": 0.5},
    "fresh": {
        "text": {"vocabulary": 560, "width": 16, "layers": 1, "heads": 2},
        "unet": {"block_out_channels": (8, 16, 16), "head_dim": 8, "norm_groups": 4},
    },
    "what": {"text_encoder": "full"},
    "images": {"fit": "squash", "shares": {"a": 0.5, "b": 0.5}},
    "words": {"style": "varied"},
    "grounding": {"images_per_batch": 2},
    "training": {"updates": 4, "batch": 4, "validation_images": 2, "look_every": 100, "sheet_steps": 1,
                 "sheet_prompts": ["heart"], "lr": 1e-3, "warmup": 1, "ema": 0.5},
}  # fmt: skip


def recipe(**changes: Any) -> ModelRecipe:
    body = {**SMALL, **changes}
    return ModelRecipe.model_validate({**body, "training": {**SMALL["training"], **changes.get("training", {})}})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with autoencoder and model."""
    run = tmp_path_factory.mktemp("run")
    train_vae(images, run, recipe().vae, "cpu")
    train_diffusion([images], run, None, recipe(), "cpu")
    return run


def stop_after(updates: int) -> Callable[[int, int, dict[str, float]], None]:
    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        if done == updates:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_step


def test_the_result_is_a_stable_diffusion_folder_that_generates(trained: Path) -> None:
    whole = StableDiffusionPipeline.from_pretrained(trained / "model", torch_dtype=torch.float32)
    whole.set_progress_bar_config(disable=True)
    image = whole("right lung", num_inference_steps=1, output_type="np").images
    assert image.shape == (1, 64, 64, 1)
    assert np.isfinite(image).all()


def test_the_folder_tells_of_no_base_and_not_where_it_was_trained(trained: Path) -> None:
    card = (trained / "model/README.md").read_text()
    assert "trained from random weights" in card
    assert "base_model" not in card
    for path in (trained / "model").rglob("*.json"):
        assert str(trained) not in path.read_text()


def test_weights_are_half_precision_and_no_file_is_above_the_limit(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with safe_open(next((trained / "model/unet").glob("*.safetensors")), "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
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
            train_diffusion([images], run, None, recipe(), "cpu", on_step=on_step)

    run.mkdir()
    if part == "diffusion":
        (run / "vae").symlink_to(trained / "vae")
    with pytest.raises(KeyboardInterrupt):
        train(stop_after(2))
    train()
    ours, theirs = (torch.load(folder / f"{part}.ckpt", weights_only=True) for folder in (run, trained))
    assert ours["step"] == theirs["step"]
    name = "autoencoder.network" if part == "vae" else "denoiser.network"
    for key, value in theirs["parts"][name].items():
        assert torch.equal(ours["parts"][name][key], value), key
    logs = [(folder / f"{part}_log.jsonl").read_text().splitlines() for folder in (run, trained)]
    assert [json.loads(line) for line in logs[0]] == [json.loads(line) for line in logs[1]]


def test_the_encoder_rests_in_the_second_phase_and_a_discriminator_joins(trained: Path) -> None:
    log = [json.loads(line) for line in (trained / "vae_log.jsonl").read_text().splitlines()]
    assert ["discriminator" in line for line in log] == [False] * 3 + [True] * 3
    assert [line["kl"] > 0 for line in log] == [True] * 3 + [False] * 3


def test_the_autoencoder_shows_itself_on_the_way(trained: Path) -> None:
    assert sorted(path.name for path in trained.glob("vae-*.png")) == ["vae-000003.png", "vae-000006.png"]


def test_resuming_with_another_recipe_is_refused(images: Path, trained: Path) -> None:
    with pytest.raises(MismatchError):
        train_diffusion([images], trained, None, recipe(training={"lr": 1e-5}), "cpu")


def test_more_updates_may_be_asked_for_later(images: Path, tmp_path: Path) -> None:
    config = recipe().vae.model_copy(update={"updates": 2, "adversary_weight": 0.0})
    train_vae(images, tmp_path, config, "cpu")
    train_vae(images, tmp_path, config.model_copy(update={"updates": 3}), "cpu")
    assert len((tmp_path / "vae_log.jsonl").read_text().splitlines()) == 3


def test_training_without_an_autoencoder_says_what_to_run(images: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError) as error:
        train_diffusion([images], tmp_path, None, recipe(), "cpu")
    assert "train-vae" in error.value.hint


def test_an_image_of_an_external_test_set_is_never_trained_on(images: Path) -> None:
    from cxrsynth.data.dataset import groundable, trainable

    row = next(Store(images).rows())
    assert trainable(row)
    assert groundable(row)
    assert not trainable({**row, "use": "test"})
    assert not groundable({**row, "mask_use": "benchmark"})


def test_whitening_changes_latents_but_no_image(trained: Path, images: Path) -> None:
    vae = AutoencoderKL.from_pretrained(trained / "vae").eval()
    images = np.stack([Store(images).load_image(row) for row in Store(images).rows()])
    before = decode(vae, encode(vae, images)).astype(int)
    with torch.no_grad():
        vae.quant_conv.weight *= 3
        vae.quant_conv.bias *= 3
        vae.post_quant_conv.weight /= 3
    whiten(vae, images)
    latents = encode(vae, images)
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=0.05)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=0.05)
    assert np.abs(decode(vae, latents).astype(int) - before).mean() < 1.5


def test_a_typo_in_the_recipe_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("training: {stepps: 10}")
    with pytest.raises(RecipeError, match=r"training\.stepps"):
        load_as(ModelRecipe, path)


@pytest.mark.parametrize("name", ["mini", "mini-grounded", "roentgen"])
def test_the_shipped_recipes_can_be_loaded(name: str) -> None:
    path = Path(__file__).parents[2] / f"recipes/train/{name}.yaml"
    assert load_as(ModelRecipe, path, {"training.updates": 7}).training.updates == 7
