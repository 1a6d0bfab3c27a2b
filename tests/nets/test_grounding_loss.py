"""The grounding loss pulls maps to where the class is."""

import pytest
import torch

from cxrsynth.nets.config import TextConfig, UnetConfig
from cxrsynth.nets.denoiser import Denoiser, LayerMaps, build_unet
from cxrsynth.nets.grounding import grounding_loss, plateau
from cxrsynth.nets.text import build_encoder, build_tokenizer, ids


def masks() -> torch.Tensor:
    both = torch.zeros(1, 2, 16, 16)
    both[0, 0, 4:12, 1:7], both[0, 1, 4:12, 9:15] = 1, 1
    return both


def maps(where: torch.Tensor) -> dict[str, tuple[int, torch.Tensor]]:
    return {"layer": (1, where[:, None].expand(-1, 3, -1, -1, -1) * 0.5)}


def loss(
    found: LayerMaps, targets: torch.Tensor, known: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    return grounding_loss(found, targets, torch.ones(1, 2) if known is None else known, torch.tensor([0.5, 0.5]))


def test_maps_on_their_classes_cost_nothing() -> None:
    ratio, pixel = loss(maps(masks()), masks())
    assert ratio.item() == pytest.approx(0, abs=1e-5)
    assert pixel.item() == pytest.approx(0, abs=1e-4)


def test_swapped_sides_cost_most() -> None:
    ratio, pixel = loss(maps(masks().flip(1)), masks())
    assert ratio.item() == pytest.approx(1, abs=1e-5)
    assert pixel.item() > 0.5


def test_an_absent_class_is_not_punished_for_its_ratio() -> None:
    one = masks()
    one[0, 1] = 0
    ratio, _ = loss(maps(masks()), one)
    assert ratio.item() == pytest.approx(0, abs=1e-5)


def test_a_class_that_nobody_looked_for_costs_nothing() -> None:
    one = masks()
    one[0, 1] = 0
    ratio, pixel = loss(maps(masks()), one, torch.tensor([[1.0, 0.0]]))
    assert ratio.item() == pytest.approx(0, abs=1e-5)
    assert pixel.item() == pytest.approx(0, abs=1e-4)


def test_a_finding_does_not_take_the_attention_of_the_anatomy() -> None:
    torch.manual_seed(0)
    text = TextConfig(vocabulary=560, width=16, layers=1, heads=2)
    tokenizer = build_tokenizer(["right lung, effusion"] * 9, text)
    weights = torch.zeros(2, 77, 2)
    weights[0, 1:3, 0], weights[1, 1, 1] = 0.5, 1
    unet = build_unet(UnetConfig(block_out_channels=(8, 16, 16), head_dim=8, norm_groups=4), 16, 4, 16)
    encoder = build_encoder(tokenizer, text)
    noisy, words = torch.randn(1, 4, 16, 16), ids(tokenizer, ["left lung"])
    both = Denoiser(unet, encoder, ids(tokenizer, ["right lung", "effusion"]), weights, torch.zeros_like(weights), (1,))
    alone = Denoiser(unet, encoder, ids(tokenizer, ["right lung"]), weights[:1], torch.zeros_like(weights[:1]), (1,))
    _, found = both(noisy, torch.tensor([300]), words, 1)
    _, without = alone(noisy, torch.tensor([300]), words, 1)
    for name, (_, value) in without.items():
        assert torch.allclose(found[name][1][:, :, 0], value[:, :, 0], atol=1e-6)


def test_the_map_of_a_finding_is_its_share_beside_no_finding() -> None:
    torch.manual_seed(0)
    text = TextConfig(vocabulary=560, width=16, layers=1, heads=2)
    tokenizer = build_tokenizer(["right lung, effusion, no finding"] * 9, text)
    own, other = torch.zeros(1, 77, 1), torch.zeros(1, 77, 1)
    own[0, 1, 0], other[0, 3:5, 0] = 1, 0.5
    unet = build_unet(UnetConfig(block_out_channels=(8, 16, 16), head_dim=8, norm_groups=4), 16, 4, 16)
    encoder, words = build_encoder(tokenizer, text), ids(tokenizer, ["effusion, no finding"])
    noisy, told = torch.randn(1, 4, 16, 16), ids(tokenizer, ["left lung"])
    shares = Denoiser(unet, encoder, words, own, other, (1,))(noisy, torch.tensor([300]), told, 1)[1]
    each = [
        Denoiser(unet, encoder, words, one, torch.zeros_like(one), (1,))(noisy, torch.tensor([300]), told, 1)[1]
        for one in (own, other)
    ]
    for name, (_, value) in shares.items():
        mine, rest = each[0][name][1], each[1][name][1]
        torch.testing.assert_close(value, mine / (mine + rest))


def test_all_classes_aim_at_what_the_longest_phrase_can_reach() -> None:
    assert plateau([[1, 2], [4, 5, 6], [8]]) == pytest.approx(1 / 3)


def test_a_few_steps_of_grounding_move_the_maps() -> None:
    torch.manual_seed(0)
    text = TextConfig(vocabulary=560, width=16, layers=1, heads=2)
    tokenizer = build_tokenizer(["right lung, left lung"] * 9, text)
    weights = torch.zeros(1, 77, 2)
    weights[0, 1:3, 0], weights[0, 4:6, 1] = 0.5, 0.5
    unet = build_unet(UnetConfig(block_out_channels=(8, 16, 16), head_dim=8, norm_groups=4), 16, 4, 16)
    words = ids(tokenizer, ["right lung, left lung"])
    denoiser = Denoiser(unet, build_encoder(tokenizer, text), words, weights, torch.zeros_like(weights), (1, 2))
    optimizer = torch.optim.Adam(denoiser.parameters(), 1e-2)
    noisy, words = torch.randn(1, 4, 16, 16), ids(tokenizer, ["left lung"])
    losses = []
    for _ in range(25):
        _, found = denoiser(noisy, torch.tensor([300]), words, 1)
        ratio, pixel = loss(found, masks())
        (ratio + pixel).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(ratio.item())
    assert losses[-1] < 0.6 * losses[0]


def test_maps_are_read_only_where_they_are_asked_for() -> None:
    text = TextConfig(vocabulary=560, width=16, layers=1, heads=2)
    tokenizer = build_tokenizer(["right lung"] * 9, text)
    unet = build_unet(UnetConfig(block_out_channels=(8, 16, 16), head_dim=8, norm_groups=4), 16, 4, 16)
    nothing = torch.zeros(1, 77, 1)
    denoiser = Denoiser(unet, build_encoder(tokenizer, text), ids(tokenizer, ["right lung"]), nothing, nothing, (2,))
    _, found = denoiser(torch.randn(3, 4, 16, 16), torch.tensor([1, 2, 3]), ids(tokenizer, ["a", "b", "c"]), 2)
    assert {level for level, _ in found.values()} == {2}
    assert {tuple(value.shape[-2:]) for _, value in found.values()} == {(8, 8)}
    assert {value.shape[0] for _, value in found.values()} == {2}
