"""Images to latents and back: the one place where an autoencoder is asked, whatever its kind and its channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Images at once; on a CPU one, so that the peak of memory is one image, and a picture does not depend on its batch.
CHUNK = {"cuda": 8}


def factor(config: Any) -> int:
    """Pixels per latent, of ``config.json`` or of a loaded autoencoder's config."""
    blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels") or ()
    return int(2 ** (len(blocks) - 1))


def encode(vae: Any, images: Tensor) -> Tensor:
    """Images -> latents as the denoiser was trained on.

    Args:
        vae: AutoencoderKL or AutoencoderDC of diffusers.
        images: (B, 1, H, W) float in -1..1; an autoencoder for colour gets equal channels.

    Returns:
        (B, C, h, w) float32: the posterior's mean where there is one, shifted and scaled.
    """
    config = vae.config
    parts = []
    for some in images.split(CHUNK.get(images.device.type, 1)):
        answer = vae.encode(some.to(vae.dtype).expand(-1, config.in_channels, -1, -1))
        parts.append((answer.latent_dist.mean if hasattr(answer, "latent_dist") else answer.latent).float())
    mean, deviation = _statistics(vae, parts[0])
    z: Tensor = torch.cat(parts)
    if mean is not None:
        return (z - mean) * config.scaling_factor / deviation
    return (z - (config.get("shift_factor") or 0.0)) * config.scaling_factor


def decode(vae: Any, latents: Tensor) -> Tensor:
    """(B, C, h, w) latents -> (B, H, W) float32 gray, about -1..1: the mean of equal channels."""
    config = vae.config
    mean, deviation = _statistics(vae, latents)
    pictures = []
    for some in latents.float().split(CHUNK.get(latents.device.type, 1)):
        if mean is not None:
            z = some * deviation / config.scaling_factor + mean
        else:
            z = some / config.scaling_factor + (config.get("shift_factor") or 0.0)
        pictures.append(vae.decode(z.to(vae.dtype)).sample.mean(dim=1).float())
    return torch.cat(pictures)


def to_gray(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H, W) about -1..1 -> (B, H, W) uint8 and (B,) bool, whether every pixel was a number; on their device."""
    finite = torch.isfinite(pictures).all(dim=(1, 2))
    return (pictures.nan_to_num() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8), finite


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Mean and deviation of each latent channel (1, C, 1, 1), for autoencoders that state them."""
    mean, deviation = (vae.config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or deviation is None:
        return None, None
    return tuple(
        torch.tensor(one, dtype=torch.float32, device=like.device).view(1, -1, 1, 1) for one in (mean, deviation)
    )  # type: ignore[return-value]
