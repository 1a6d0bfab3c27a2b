"""An autoencoder of our own while it is trained: how it is built, and one pass through both halves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from cxrsynth.nets.bundle import Vae


def build(size: int, channels: Sequence[int], layers: int, latent_channels: int, norm_groups: int) -> Vae:
    """An untrained autoencoder for images of ``size`` pixels, half as large with each of the channels but the first."""
    blocks = len(channels)
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        latent_channels=latent_channels,
        norm_num_groups=norm_groups,
        sample_size=size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


class Reconstruct(nn.Module):
    """One pass through the autoencoder as a single call, so that it can be spread over several GPUs."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, noise: Tensor | None, half: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B, 1, H, W) in -1..1 -> reconstruction, KL per latent number, reconstruction at half size or None.

        Args:
            noise: (B, C, H/8, W/8) normal; None keeps the encoder as it is and decodes the posterior's mean.
            half: whether the third result is wanted.
        """
        if noise is None:
            with torch.no_grad():
                z = self.vae.encode(x).latent_dist.mean
            kl = x.new_zeros(())
        else:
            posterior = self.vae.encode(x).latent_dist
            z = posterior.mean + posterior.std * noise
            kl = 0.5 * (posterior.mean.float().pow(2) + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        small = self.vae.decode(F.avg_pool2d(z, 2)).sample if half else None
        return self.vae.decode(z).sample, kl, small
