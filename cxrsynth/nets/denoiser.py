"""UNet and text encoder as one network: noisy latents and words in, prediction and class maps out."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from cxrsynth.nets.attention import Layer, attention_probs, observe_cross, project_keys
from cxrsynth.nets.bundle import TextEncoder, Unet
from cxrsynth.nets.config import UnetConfig
from cxrsynth.nets.taps import share

# layer name -> (level, maps (n, heads, K, h, w))
LayerMaps = dict[str, tuple[int, Tensor]]


def build_unet(config: UnetConfig, side: int, channels: int, text_width: int) -> Unet:
    """An untrained UNet with cross-attention on the grids of ``side``, ``side / 2`` and ``side / 4``."""
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        only_cross_attention=tuple(not wanted for wanted in config.self_attention),
        mid_block_only_cross_attention=False,
        cross_attention_dim=text_width,
        # diffusers calls the number of heads attention_head_dim
        attention_head_dim=tuple(max(1, width // config.head_dim) for width in config.block_out_channels),
        norm_num_groups=config.norm_groups,
    )


class Denoiser(nn.Module):
    """UNet and text encoder in a single call, so that gradients of both travel together on several GPUs.

    Args:
        class_ids: (G, T) int64 tokens of the class texts, whose keys are read for the maps and nothing else.
        class_weights: (G, T, K) float32 how much each token of a text counts for each class; a class has one text.
        class_against: (G, T, K) float32 the same of the tokens that the class is compared with, see
            `cxrsynth.nets.taps.KeySource`; 0 in texts whose attention counts as it is.
        levels: grids to read, 1 for that of the latents, 2 for half of it.
    """

    class_ids: Tensor
    class_weights: Tensor
    class_against: Tensor

    def __init__(
        self,
        unet: Unet,
        text_encoder: TextEncoder,
        class_ids: Tensor,
        class_weights: Tensor,
        class_against: Tensor,
        levels: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder
        self.levels = levels
        self.register_buffer("class_ids", class_ids, persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("class_against", class_against, persistent=False)

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor, grounded: int = 0) -> tuple[Tensor, LayerMaps]:
        """(B, C, h, w), (B,), (B, T) -> prediction (B, C, h, w), and class maps of the first ``grounded`` images."""
        if not grounded:
            states = self.text_encoder(ids).last_hidden_state
            return self.unet(noisy, timesteps, states).sample, {}
        both = self.text_encoder(torch.cat([ids, self.class_ids])).last_hidden_state
        states, classes = both[: len(ids)], both[len(ids) :]
        seen: list[tuple[Layer, Tensor]] = []

        def remember(layer: Layer, query: Tensor, key: Tensor | None) -> None:
            seen.append((layer, query))

        # Maps are made after the pass: gradient checkpointing runs layers again without us, and they must be the same.
        with observe_cross(self.unet, remember):
            prediction = self.unet(noisy, timesteps, states).sample
        maps: LayerMaps = {}
        for layer, query in seen:
            level = round(noisy.shape[-2] / layer.size[0])
            if level in self.levels:
                keys = project_keys(layer.attn, classes)  # (G, heads, T, d)
                found = torch.stack(
                    [
                        self._read(attention_probs(layer.attn, query[:grounded], keys[group : group + 1]), group)
                        for group in range(len(classes))
                    ]
                ).sum(dim=0)  # (n, heads, N, K): each class has weights in one group only
                maps[layer.name] = level, found.transpose(2, 3).unflatten(-1, layer.size)
        return prediction, maps

    def _read(self, probs: Tensor, group: int) -> Tensor:
        """(n, heads, N, T) attention to the text of a group -> (n, heads, N, K) maps of its classes."""
        own = probs @ self.class_weights[group]
        against = self.class_against[group]
        return share(own, probs @ against) if bool(against.any()) else own
