"""Images to latents and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cxrsynth.nets.bundle import Vae


@torch.no_grad()
def encode(vae: Vae, images: np.ndarray, batch: int = 8) -> Tensor:
    """(N, H, W) uint8 -> (N, C, H/8, W/8) float32 latents on the CPU: the posterior's mean, scaled for the denoiser.

    An autoencoder for colour sees the image in each of its channels.
    """
    device = next(vae.parameters()).device
    parts = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch, None].astype(np.float32) / 127.5 - 1).to(device)
        x = x.expand(-1, vae.config.in_channels, -1, -1)
        with torch.autocast(device.type, torch.bfloat16):
            mean = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        parts.append(mean.float().cpu() * vae.config.scaling_factor)
    return torch.cat(parts)


@torch.no_grad()
def decode(vae: Vae, latents: Tensor, batch: int = 8) -> np.ndarray:
    """(N, C, h, w) latents -> (N, 8h, 8w) uint8."""
    device = next(vae.parameters()).device
    parts = []
    for start in range(0, len(latents), batch):
        z = latents[start : start + batch].to(device) / vae.config.scaling_factor
        with torch.autocast(device.type, torch.bfloat16):
            y = vae.decode(z.contiguous(memory_format=torch.channels_last)).sample
        parts.append(((y.float().clamp(-1, 1) + 1) * 127.5).round().byte()[:, 0].cpu().numpy())
    return np.concatenate(parts)
