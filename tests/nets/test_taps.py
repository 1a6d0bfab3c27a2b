"""The taps read attention and change nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from cxrsynth.errors import MissingError, RecipeError
from cxrsynth.factory.prompts import spec
from cxrsynth.generate.sampler import Latent
from cxrsynth.nets.attention import attention_probs, observe_cross, project_keys
from cxrsynth.nets.parts import load_tokenizer
from cxrsynth.nets.taps import Taps, token_columns
from cxrsynth.recipe import parse
from cxrsynth.records import Draw, Spec
from tests.conftest import latent_body


def specs(model: Path, count: int = 2, **changes: object) -> list[Spec]:
    recipe = parse(latent_body(model, **changes))
    return [spec(recipe, index) for index in range(count)]


def draw(model: Path, tapped: bool = True, ask: list[Spec] | None = None, **changes: object) -> list[Draw]:
    recipe = parse(latent_body(model, **changes))
    generator = Latent(model, recipe.sampler, recipe.attention if tapped else None, torch.device("cpu"))
    return generator.draw(ask or [spec(recipe, index) for index in range(2)])


def hooks(module: torch.nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_taps_leave_the_image_bit_identical(tiny: Path, dtype: str) -> None:
    sampler = {"num_inference_steps": 2, "batch": 2, "dtype": dtype}
    for tapped, plain in zip(draw(tiny, sampler=sampler), draw(tiny, tapped=False, sampler=sampler), strict=True):
        assert np.array_equal(tapped.image, plain.image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_taps_leave_the_latents_bit_identical(tiny: Path, dtype: torch.dtype) -> None:
    # The 8-bit picture could hide a change: compare what the UNet itself predicts.
    unet = UNet2DConditionModel.from_pretrained(tiny, subfolder="unet", torch_dtype=dtype).eval()
    x, text = torch.randn(2, 4, 16, 16, dtype=dtype), torch.randn(2, 77, 32, dtype=dtype)
    with torch.inference_mode():
        plain = unet(x, 10, encoder_hidden_states=text).sample
        with observe_cross(unet, lambda *_: None):
            tapped = unet(x, 10, encoder_hidden_states=text).sample
    assert plain.dtype == dtype
    assert torch.equal(plain, tapped)


def test_no_hook_stays_behind_after_an_error(tiny: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny, subfolder="unet")
    with pytest.raises(ZeroDivisionError), observe_cross(unet, lambda *_: None):
        raise ZeroDivisionError
    assert hooks(unet) == 0


def test_attention_is_what_the_layer_itself_computes(tiny: Path) -> None:
    """Probabilities from the tapped query times the layer's own values give the layer's own output."""
    unet = UNet2DConditionModel.from_pretrained(tiny, subfolder="unet").eval()
    text = torch.randn(1, 77, 32)
    outputs, rebuilt = {}, {}

    def read(layer, query, key):  # type: ignore[no-untyped-def]
        probs = attention_probs(layer.attn, query, project_keys(layer.attn, text))
        value = layer.attn.to_v(text).view(1, 77, layer.attn.heads, -1).transpose(1, 2)
        rebuilt[layer.name] = layer.attn.to_out[0]((probs @ value).transpose(1, 2).flatten(2))

    with torch.inference_mode(), observe_cross(unet, read) as layers:
        handles = [
            layer.attn.register_forward_hook(lambda m, a, out, name=layer.name: outputs.__setitem__(name, out))
            for layer in layers
        ]
        unet(torch.randn(1, 4, 16, 16), 10, encoder_hidden_states=text)
        for handle in handles:
            handle.remove()
    assert outputs.keys() == rebuilt.keys()
    assert outputs
    for name, output in outputs.items():
        torch.testing.assert_close(rebuilt[name], output, atol=1e-5, rtol=1e-4)


def test_maps_do_not_depend_on_the_guidance_half(tiny: Path) -> None:
    """Only the conditional half is read: another negative prompt changes no map at the first step."""
    first_step = {"attention": {"levels": [1, 2], "steps": [0.0, 0.4]}}
    one = draw(tiny, negative_prompt="", **first_step)
    other = draw(tiny, negative_prompt="heart heart heart", **first_step)
    assert np.array_equal(one[0].maps, other[0].maps)
    assert not np.array_equal(one[0].image, other[0].image)


def test_maps_are_there_without_guidance(tiny: Path) -> None:
    plain = {"num_inference_steps": 2, "batch": 2, "guidance_scale": 1.0}
    assert draw(tiny, sampler=plain)[0].maps.sum() > 0


def test_first_step_maps_are_the_same_with_and_without_guidance(tiny: Path) -> None:
    first_step = {"levels": [1, 2], "steps": [0.0, 0.4]}
    guided = draw(tiny, attention=first_step, sampler={"num_inference_steps": 2, "guidance_scale": 5.0})
    plain = draw(tiny, attention=first_step, sampler={"num_inference_steps": 2, "guidance_scale": 1.0})
    np.testing.assert_allclose(guided[0].maps, plain[0].maps, rtol=1e-4)


def test_each_sample_of_a_batch_has_its_own_map(tiny: Path) -> None:
    one, other = draw(tiny)
    assert not np.array_equal(one.maps, other.maps)


def test_a_sample_has_the_same_map_wherever_it_stands_in_the_batch(tiny: Path) -> None:
    a, b = specs(tiny)
    forward, backward = draw(tiny, ask=[a, b]), draw(tiny, ask=[b, a])
    assert np.array_equal(forward[0].image, backward[1].image)
    np.testing.assert_array_equal(forward[0].maps, backward[1].maps)


def test_a_picture_that_is_not_square_has_maps_of_its_shape(tiny: Path) -> None:
    one = draw(tiny, sampler={"num_inference_steps": 2, "height": 64, "width": 96})[0]
    assert one.image.shape == (64, 96)
    assert one.maps.shape == (3, 16, 24)


def test_a_class_the_prompt_does_not_name_gets_a_map_all_the_same(tiny: Path) -> None:
    for keys in ("map", "prompt"):
        one = draw(tiny, prompts={"templates": ["adult"]}, attention={"keys": keys, "levels": [1]})[0]
        assert (one.maps.sum(axis=(1, 2)) > 0).all()


def test_prompt_keys_read_the_words_of_the_prompt(tiny: Path) -> None:
    """With the phrase in the prompt the map comes from there, so it changes when other words are added."""
    short = draw(
        tiny, prompts={"templates": ["heart"]}, attention={"keys": "prompt", "levels": [1], "steps": [0, 0.4]}
    )[0]
    long = draw(
        tiny,
        prompts={"templates": ["adult heart x-ray heart"]},
        attention={"keys": "prompt", "levels": [1], "steps": [0, 0.4]},
    )[0]
    assert not np.allclose(short.maps[2], long.maps[2], rtol=1e-3)


def test_right_lung_and_left_lung_are_different_tokens(tiny: Path) -> None:
    columns = token_columns(load_tokenizer(tiny), "right lung, left lung, heart", ["right lung", "left lung", "heart"])
    assert all(columns)
    assert not set(columns[0]) & set(columns[1])


def test_a_phrase_inside_a_longer_one_reads_its_own_word(tiny: Path) -> None:
    columns = token_columns(load_tokenizer(tiny), "right lung, lung", ["lung", "right lung"])
    assert not set(columns[0]) & set(columns[1])


def test_a_phrase_is_not_found_inside_a_word(tiny: Path) -> None:
    assert token_columns(load_tokenizer(tiny), "hearty lungs", ["heart", "lung"]) == [[], []]


def test_the_phrases_of_one_text_cover_their_letters_only(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    text = "right lung, heart"
    (columns,) = token_columns(tokenizer, text, ["heart"])
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    assert "".join(text[a:b] for a, b in (offsets[i] for i in columns)) == "heart"


def test_buffers_do_not_grow_with_the_steps(tiny: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny, subfolder="unet").eval()
    generator = Latent(tiny, parse(latent_body(tiny)).sampler, parse(latent_body(tiny)).attention, torch.device("cpu"))
    ask = specs(tiny)
    with torch.inference_mode():
        told = generator.model.encode([one.prompt for one in ask])
        taps = generator._taps(ask, told, guided=False)
        assert isinstance(taps, Taps)
        sizes = []
        with observe_cross(unet, taps):
            for t in range(4):
                unet(torch.randn(2, 4, 16, 16), t, encoder_hidden_states=told.states)
                sizes.append(sum(total.numel() for total in taps._sums.values()))
    assert len(set(sizes)) == 1


def test_the_anatomy_is_read_as_if_there_were_no_findings(tiny: Path) -> None:
    attention = parse(latent_body(tiny)).attention
    phrases = {"right_lung": "right lung", "heart": "heart", "effusion": "pleural effusion"}
    sampler = parse(latent_body(tiny)).sampler
    both = Latent(tiny, sampler, attention, torch.device("cpu"), overlapping=["effusion"])
    one = Spec(0, "a", "chest", "", phrases, {}, 3, "test")
    bare = Spec(0, "a", "chest", "", {name: phrases[name] for name in ("right_lung", "heart")}, {}, 3, "test")
    maps = both.draw([one])[0].maps
    np.testing.assert_allclose(maps[:2], both.draw([bare])[0].maps, atol=1e-6)
    assert 0 <= maps[2].min() <= maps[2].max() <= 1  # a share


def test_a_unet_without_cross_attention_is_refused(tiny: Path) -> None:
    vae = AutoencoderKL.from_pretrained(tiny, subfolder="vae")
    with pytest.raises(MissingError, match="no cross-attention"), observe_cross(vae, lambda *_: None):
        pass


def test_levels_the_model_does_not_have_are_refused(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="no attention was captured"):
        draw(tiny, attention={"levels": [8]})
