"""A finished picture is looked at once more for refiners that ask, and stays as it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from cxrsynth.auxiliary_files import read_name
from cxrsynth.errors import MismatchError, RecipeError
from cxrsynth.factory.prompts import spec
from cxrsynth.generate.sampler import Latent
from cxrsynth.nets.attention import split_heads
from cxrsynth.nets.selfmaps import SelfMaps
from cxrsynth.recipe import parse
from cxrsynth.records import Asked, Draw
from tests.conftest import latent_body


def draw(model: Path, asked: Asked, **changes: object) -> list[Draw]:
    recipe = parse(latent_body(model, **changes))
    generator = Latent(model, recipe.sampler, recipe.attention, torch.device("cpu"), asked=asked)
    return generator.draw([spec(recipe, index) for index in range(2)])


def test_asking_changes_neither_picture_nor_maps(tiny: Path) -> None:
    for asked, plain in zip(draw(tiny, Asked(levels=(1, 2))), draw(tiny, Asked()), strict=True):
        np.testing.assert_array_equal(asked.image, plain.image)
        np.testing.assert_array_equal(asked.maps, plain.maps)
        assert set(asked.reads) == {"self_1", "self_2"}
        assert plain.reads == {}


def test_each_place_shares_out_all_of_its_attention(tiny: Path) -> None:
    one, other = draw(tiny, Asked(levels=(2,)), sampler={"num_inference_steps": 2, "height": 64, "width": 96})
    assert one.reads["self_2"].shape == (8, 12, 8, 12)
    np.testing.assert_allclose(one.reads["self_2"].astype(float).sum(axis=(2, 3)), 1, atol=5e-3)
    assert not np.array_equal(one.reads["self_2"], other.reads["self_2"])


def test_self_attention_is_what_the_fused_kernel_uses(tiny: Path) -> None:
    """The kernel that the layers run on, given the identity as values, hands out its probabilities."""
    unet = UNet2DConditionModel.from_pretrained(tiny, subfolder="unet").eval()
    used: list[torch.Tensor] = []

    def rebuild(attn, args, kwargs):  # type: ignore[no-untyped-def]
        hidden = args[0] if args else kwargs["hidden_states"]
        if hidden.shape[1] == 64:  # 8 x 8 places: level 2
            q, k = (split_heads(project(hidden), attn.heads) for project in (attn.to_q, attn.to_k))
            used.append(F.scaled_dot_product_attention(q, k, torch.eye(64).expand(*q.shape[:2], -1, -1)).mean(dim=1))

    x, text = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 32)
    maps = SelfMaps((16, 16), (2,))
    with torch.inference_mode():
        plain = unet(x, 10, encoder_hidden_states=text).sample
        for name, attn in unet.named_modules():
            if name.endswith("attn1"):
                attn.register_forward_pre_hook(rebuild, with_kwargs=True)
        with maps.observe(unet):
            seen = unet(x, 10, encoder_hidden_states=text).sample
    assert torch.equal(plain, seen)
    expected = torch.stack(used).mean(dim=0).reshape(1, 8, 8, 8, 8)
    np.testing.assert_allclose(maps.maps()[2], expected, atol=1e-4)


def test_a_grid_with_too_many_places_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(RecipeError, match="4096 places") as caught:
        SelfMaps((64, 64), (1,))
    assert "level: 2" in caught.value.hint


def test_a_level_the_network_does_not_have_is_an_error(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="level 8"):
        draw(tiny, Asked(levels=(8,)))


def test_a_mask_head_answers_for_every_picture(tiny: Path, fitted: Path) -> None:
    found = draw(tiny, Asked(heads=(str(fitted),)))
    for one in found:
        said = one.reads[read_name(fitted)]
        assert said.shape == (3, 32, 32)
        assert said.dtype == np.float16
        assert said.min() >= 0
        assert said.astype(np.float32).sum(axis=0).max() <= 1.01


def test_a_mask_head_of_another_model_is_refused(tiny: Path, fitted: Path, tmp_path: Path) -> None:
    from tests.tiny import build

    other = build(tmp_path / "other", seed=5)
    with pytest.raises(MismatchError, match="another model"):
        draw(other, Asked(heads=(str(fitted),)))
