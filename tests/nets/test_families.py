"""Every family of models gives the image of its own pipeline in diffusers, and maps of the words it is asked for."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from cxrsynth.errors import MissingError, RecipeError
from cxrsynth.nets import autoencoder
from cxrsynth.nets.attention import Layer, attention_probs, project_keys
from cxrsynth.nets.families import family_of, load
from cxrsynth.nets.families.base import Model
from tests.nets.tiny import BUILD, SIZE, build

PROMPT, NEGATIVE, STEPS, SCALE = "Frontal chest x-ray, right lung, heart", "left lung", 3, 3.0
CPU = torch.device("cpu")
JOINT = ("sd3", "sd3-without-t5", "flux-dev", "flux-schnell")
CROSS = tuple(name for name in BUILD if name not in JOINT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model by name, made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = build(name, tmp_path_factory.mktemp("families") / name)
        return made[name]

    return get


@pytest.fixture(scope="module")
def loaded(folder: Callable[[str], Path]) -> Callable[[str], Model]:
    """The loaded model by name; tests only read it."""
    return lru_cache(maxsize=None)(lambda name: load(folder(name), CPU, torch.float32))


def schedule(model: Model) -> Any:
    """The model's own scheduler."""
    return getattr(diffusers, model.scheduler_config["_class_name"]).from_config(model.scheduler_config)


def pipeline_of(folder: Path) -> Any:
    without = {} if (folder / "text_encoder_3").exists() else {"text_encoder_3": None, "tokenizer_3": None}
    found = diffusers.DiffusionPipeline.from_pretrained(folder, **(without if "sd3" in folder.name else {}))
    found.set_progress_bar_config(disable=True)
    return found


@torch.inference_mode()
def theirs(folder: Path, negative: str = NEGATIVE, output: str = "pt") -> Tensor:
    """What the pipeline of diffusers draws."""
    whole = pipeline_of(folder)
    options: dict[str, Any] = {"height": SIZE, "width": SIZE, "guidance_scale": SCALE, "num_inference_steps": STEPS}
    if "PixArt" in type(whole).__name__ or "Sana" in type(whole).__name__:
        options |= {"use_resolution_binning": False, "clean_caption": False}
    if "Flux" not in type(whole).__name__ and "Consistency" not in type(whole).__name__:
        options["negative_prompt"] = negative or None if "XL" in type(whole).__name__ else negative
    return whole(PROMPT, generator=torch.Generator().manual_seed(5), output_type=output, **options).images


@torch.inference_mode()
def ours(model: Model, negative: str = NEGATIVE) -> Tensor:
    """The same with an adapter: (1, C, h, w) latents."""
    scheduler = schedule(model)
    size = (SIZE // model.factor, SIZE // model.factor)
    noise = torch.Generator().manual_seed(5)
    x = torch.randn((1, model.channels, *size), generator=noise)
    guided = not model.embeds_guidance
    given = model.encode([PROMPT])
    if guided:
        given = given.after(model.encode([negative], negative=True))
    model.set_timesteps(scheduler, STEPS, size)
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    extra = {"generator": noise} if "LCM" in type(scheduler).__name__ else {}
    for t in scheduler.timesteps:
        both = torch.cat([x, x]) if guided else x
        if hasattr(scheduler, "scale_model_input"):
            both = scheduler.scale_model_input(both, t)
        predicted = model.denoise(both, t, given, SCALE)
        if guided:
            without, with_ = predicted.chunk(2)
            predicted = without + SCALE * (with_ - without)
        x = scheduler.step(predicted, t, x, **extra).prev_sample
    return x


@pytest.mark.parametrize("name", BUILD)
def test_the_image_is_the_one_that_diffusers_gives(
    name: str, folder: Callable[[str], Path], loaded: Callable[[str], Model]
) -> None:
    model = loaded(name)
    with torch.inference_mode():
        picture = autoencoder.to_images(model.vae, ours(model))[0] / 2 + 0.5
    expected = theirs(folder(name))[0]  # (3, H, W), cut at 0 and 1
    inside = ((expected > 0) & (expected < 1)).all(dim=0)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(picture[inside], expected.mean(0)[inside], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["sdxl", "pixart-sigma", "sana", "sd3"])
def test_an_empty_negative_prompt_is_theirs_too(
    name: str, folder: Callable[[str], Path], loaded: Callable[[str], Model]
) -> None:
    expected = theirs(folder(name), negative="", output="latent")
    torch.testing.assert_close(ours(loaded(name), negative=""), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BUILD)
def test_observing_changes_no_bit_and_leaves_no_hook(name: str, loaded: Callable[[str], Model]) -> None:
    model = loaded(name)
    plain = ours(model)
    with model.observe(lambda layer, query, key: None):
        assert torch.equal(ours(model), plain)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.denoiser.modules())


def seen(model: Model, given: Any) -> list[tuple[Layer, Tensor, Tensor | None]]:
    """What the layers report in one pass of one image."""
    found: list[tuple[Layer, Tensor, Tensor | None]] = []
    torch.manual_seed(3)
    x = torch.randn(1, model.channels, SIZE // model.factor, 2 * SIZE // model.factor)  # wider than high
    with torch.inference_mode(), model.observe(lambda *what: found.append(what)):
        model.denoise(x, torch.tensor(500), given, SCALE)
    return found


@pytest.mark.parametrize("name", BUILD)
def test_queries_lie_on_the_grid_that_the_layer_says(name: str, loaded: Callable[[str], Model]) -> None:
    model = loaded(name)
    reports = seen(model, model.encode([PROMPT]))
    assert reports
    for layer, query, key in reports:
        height, width = layer.size
        assert width == 2 * height
        assert query.shape[2] == height * width
        assert (key is None) == model.any_text


@pytest.mark.parametrize("name", CROSS)
def test_probabilities_are_those_of_the_layer(name: str, loaded: Callable[[str], Model]) -> None:
    """Probabilities from the tapped query times the layer's own values give the layer's own output."""
    model = loaded(name)
    given = model.encode([PROMPT])
    outputs: dict[str, Tensor] = {}
    with torch.inference_mode():
        with model.observe(lambda *_: None) as layers:
            handles = [
                layer.attn.register_forward_hook(lambda m, a, out, at=layer.name: outputs.__setitem__(at, out))
                for layer in layers
            ]
            reports = seen(model, given)
            for handle in handles:
                handle.remove()
        context = model.keys_from(given)
        for layer, query, _ in reports:
            probs = attention_probs(layer.attn, query, project_keys(layer.attn, context), given.mask)
            value = layer.attn.to_v(context).unflatten(-1, (layer.attn.heads, -1)).transpose(1, 2)
            again = layer.attn.to_out[0]((probs @ value).transpose(1, 2).flatten(2))
            torch.testing.assert_close(again, outputs[layer.name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", JOINT)
def test_joint_queries_and_keys_are_those_that_are_compared(
    name: str, loaded: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(name)
    compared: list[tuple[Tensor, Tensor]] = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def watch(query: Tensor, key: Tensor, *args: Any, **options: Any) -> Tensor:
        compared.append((query, key))
        return kernel(query, key, *args, **options)

    given = model.encode([PROMPT])
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    tokens = given.states.shape[1]
    first = "flux" in name  # Flux puts the text before the image, SD3 behind it
    for (_, query, key), (all_queries, all_keys) in zip(seen(model, given), compared, strict=False):
        assert key is not None
        places = query.shape[2]
        torch.testing.assert_close(query, all_queries[:, :, -places:] if first else all_queries[:, :, :places])
        torch.testing.assert_close(key, all_keys[:, :, :tokens] if first else all_keys[:, :, -tokens:])


@pytest.mark.parametrize("name", BUILD)
def test_a_phrase_is_found_at_its_own_tokens(name: str, loaded: Callable[[str], Model]) -> None:
    model = loaded(name)
    columns = model.columns(PROMPT, ["heart", "right lung", "left lung"])
    assert columns[0]
    assert columns[1]
    assert not columns[2]
    assert not set(columns[0]) & set(columns[1])
    # Another word there changes the states at its tokens, and none of those before it.
    one, other = model.encode([PROMPT]), model.encode([PROMPT.replace("heart", "adult")])
    changed = (one.states - other.states).abs().amax(dim=-1)[0] > 1e-6
    assert changed[columns[0]].any()
    if name not in ("pixart-alpha", "pixart-sigma", "flux-dev", "flux-schnell"):  # a T5 looks both ways
        assert not changed[columns[1]].any()


def test_a_family_that_nobody_knows_is_refused_with_the_known_ones(folder: Callable[[str], Path]) -> None:
    where = folder("sd")
    other = where.parent / "other"
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "KandinskyPipeline"}')
    with pytest.raises(MissingError, match="KandinskyPipeline, which is not supported") as error:
        family_of(other)
    assert "PixArt" in error.value.hint


@pytest.mark.parametrize("name", ["pixart-alpha", "sana", "flux-dev"])
def test_a_prompt_over_the_limit_is_refused_with_its_count(name: str, loaded: Callable[[str], Model]) -> None:
    model = loaded(name)
    with pytest.raises(RecipeError, match=f"the model reads {model.limit}"):
        model.check_tokens(["heart " * 1000])


@pytest.mark.parametrize("name", ["sd", "sana", "sd3"])
def test_latents_decode_to_what_was_encoded(name: str, loaded: Callable[[str], Model]) -> None:
    """Scale and shift of encoding and decoding undo each other."""
    model = loaded(name)
    images = torch.rand(2, 1, SIZE, SIZE) * 2 - 1
    with torch.inference_mode():
        latents = autoencoder.to_latents(model.vae, images)
        answer = model.vae.encode(images.expand(-1, 3, -1, -1))
        raw = answer.latent_dist.mean if hasattr(answer, "latent_dist") else answer.latent
        torch.testing.assert_close(
            autoencoder.to_images(model.vae, latents), model.vae.decode(raw).sample.mean(1), atol=1e-5, rtol=1e-4
        )
