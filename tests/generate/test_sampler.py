"""The latent generator draws what a recipe asks for, and says what it cannot do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from cxrsynth.errors import MissingError, RecipeError, UsageError
from cxrsynth.factory.prompts import spec
from cxrsynth.generate.guidance import guide
from cxrsynth.generate.sampler import Latent
from cxrsynth.nets.schedulers import SHORT, build
from cxrsynth.recipe import parse
from cxrsynth.records import Draw
from tests.conftest import latent_body


def draw(model: Path, count: int = 2, **sampler: object) -> list[Draw]:
    recipe = parse(latent_body(model, sampler={"num_inference_steps": 3, "batch": count, **sampler}))
    return Latent.from_recipe(recipe, model, "cpu").draw([spec(recipe, index) for index in range(count)])


SCHEDULERS = [*SHORT, "HeunDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_latents_are_those_that_diffusers_draws(tiny: Path, scheduler: str) -> None:
    """Same model, prompt, noise and scheduler: the plain pipeline of the library gives the same latents."""
    sampler = {"num_inference_steps": 4, "scheduler": scheduler, "guidance_scale": 3.0, "batch": 1}
    recipe = parse(latent_body(tiny, sampler=sampler))
    one = spec(recipe, 0)
    _, ours = Latent.from_recipe(recipe, tiny, "cpu").steered([one])
    pipeline = StableDiffusionPipeline.from_pretrained(tiny, safety_checker=None)
    pipeline.scheduler = build(scheduler, dict(pipeline.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        one.prompt,
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(one.seed),
        output_type="latent",
    ).images
    assert ours.std() > 0
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_picture_is_the_decoded_latents_in_gray(tiny: Path) -> None:
    recipe = parse(latent_body(tiny))
    (made,), latents = Latent.from_recipe(recipe, tiny, "cpu").steered([spec(recipe, 0)])
    vae = AutoencoderKL.from_pretrained(tiny, subfolder="vae")
    with torch.inference_mode():
        picture = vae.decode(latents / vae.config.scaling_factor).sample[0].mean(0)
    theirs = (picture * 127.5 + 127.5).round().clamp(0, 255).numpy()
    assert np.abs(made.image.astype(float) - theirs).max() <= 1


def test_the_same_seed_gives_the_same_bytes(tiny: Path) -> None:
    assert np.array_equal(draw(tiny)[0].image, draw(tiny)[0].image)


def test_two_samples_differ(tiny: Path) -> None:
    one, other = draw(tiny)
    assert not np.array_equal(one.image, other.image)


def test_a_stochastic_scheduler_takes_its_noise_from_the_sample(tiny: Path) -> None:
    assert np.array_equal(
        draw(tiny, scheduler="ddim", eta=1.0)[0].image, draw(tiny, scheduler="ddim", eta=1.0)[0].image
    )


def test_a_three_channel_autoencoder_gives_a_gray_picture(tmp_path: Path) -> None:
    from tests.tiny import build

    model = build(tmp_path / "rgb", gray=False, prediction="v_prediction")
    assert draw(model, 1)[0].image.shape == (64, 64)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_draws_nearly_the_same_picture(tiny: Path, dtype: str) -> None:
    full, half = draw(tiny, 1)[0], draw(tiny, 1, dtype=dtype)[0]
    assert half.finite
    assert half.maps.sum() > 0
    assert np.abs(full.image.astype(float) - half.image.astype(float)).mean() < 4


def test_the_callback_hears_of_every_step(tiny: Path) -> None:
    heard: list[tuple[int, int]] = []
    recipe = parse(latent_body(tiny, sampler={"num_inference_steps": 3}))
    Latent.from_recipe(recipe, tiny, "cpu", lambda step, steps: heard.append((step, steps))).draw([spec(recipe, 0)])
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_guidance_of_one_is_the_conditional_prediction() -> None:
    both = torch.randn(4, 4, 8, 8)
    torch.testing.assert_close(guide(both, 1.0, 0.0), both[2:])


def test_full_rescale_restores_the_conditional_spread() -> None:
    both = torch.randn(4, 4, 8, 8)
    guided = guide(both, 7.0, 1.0)
    torch.testing.assert_close(guided.std(dim=(1, 2, 3)), both[2:].std(dim=(1, 2, 3)))


def test_a_prompt_over_the_limit_is_refused_with_its_count(tiny: Path) -> None:
    recipe = parse(latent_body(tiny, prompts={"templates": ["heart " * 90]}))
    with pytest.raises(RecipeError, match=r"prompt of 92 tokens, the model reads 77"):
        Latent.from_recipe(recipe, tiny, "cpu").draw([spec(recipe, 0)])


def test_an_unknown_scheduler_lists_the_known_ones(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="unknown scheduler 'dpm'") as error:
        draw(tiny, scheduler="dpm")
    assert "ddim" in error.value.hint


def test_a_size_the_model_cannot_draw_names_the_multiple(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="cannot draw 68 x 64") as error:
        draw(tiny, height=68, width=64)
    assert "multiples of 8" in error.value.hint


def test_a_model_whose_weights_are_cut_short_is_refused(tiny: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MissingError, match="cannot be read"):
        draw(broken)


def test_an_unknown_text_encoder_is_named(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    index = json.loads((other / "model_index.json").read_text())
    index["text_encoder"] = ["mylib", "MyEncoder"]
    (other / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(MissingError, match=r"mylib\.MyEncoder"):
        draw(other)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_asked_for_and_absent_is_an_error(tiny: Path) -> None:
    recipe = parse(latent_body(tiny))
    with pytest.raises(UsageError, match="device 'cuda' was asked for"):
        Latent.from_recipe(recipe, tiny, "cuda")
