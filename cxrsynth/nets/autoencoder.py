"""Images to latents and back: the one place where an autoencoder is asked, whatever its kind and its channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrsynth.encoding import sha256
from cxrsynth.nets.bundle import Vae

# Images at once; on a CPU one, so that the peak of memory is one image, and an image does not depend on its batch.
CHUNK = {"cuda": 8}


def factor(config: Any) -> int:
    """Pixels per latent, of ``config.json`` or of a loaded autoencoder's config."""
    blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels") or ()
    return int(2 ** (len(blocks) - 1))


def to_latents(vae: Vae, images: Tensor, chunk: int | None = None) -> Tensor:
    """Images -> latents as the denoiser was trained on.

    Args:
        vae: AutoencoderKL or AutoencoderDC of diffusers.
        images: (B, 1, H, W) float in -1..1; an autoencoder for colour gets equal channels.
        chunk: images at once.

    Returns:
        (B, C, h, w) float32: the posterior's mean where there is one, shifted and scaled.
    """
    config = vae.config
    parts = []
    for some in images.split(chunk or CHUNK.get(images.device.type, 1)):
        answer = vae.encode(some.to(vae.dtype).expand(-1, config.in_channels, -1, -1))
        parts.append((answer.latent_dist.mean if hasattr(answer, "latent_dist") else answer.latent).float())
    mean, deviation = _statistics(vae, parts[0])
    z: Tensor = torch.cat(parts)
    if mean is not None:
        return (z - mean) * config.scaling_factor / deviation
    return (z - (config.get("shift_factor") or 0.0)) * config.scaling_factor


def to_images(vae: Vae, latents: Tensor, chunk: int | None = None) -> Tensor:
    """(B, C, h, w) latents -> (B, H, W) float32 gray, about -1..1: the mean of equal channels."""
    config = vae.config
    mean, deviation = _statistics(vae, latents)
    images = []
    for some in latents.float().split(chunk or CHUNK.get(latents.device.type, 1)):
        if mean is not None:
            z = some * deviation / config.scaling_factor + mean
        else:
            z = some / config.scaling_factor + (config.get("shift_factor") or 0.0)
        images.append(vae.decode(z.to(vae.dtype)).sample.mean(dim=1).float())
    return torch.cat(images)


def to_gray(images: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H, W) about -1..1 -> (B, H, W) uint8 and (B,) bool, whether every pixel was a number; on their device."""
    finite = torch.isfinite(images).all(dim=(1, 2))
    return (images.nan_to_num() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8), finite


def _statistics(vae: Vae, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Mean and deviation of each latent channel (1, C, 1, 1), for autoencoders that state them."""
    mean, deviation = (vae.config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or deviation is None:
        return None, None
    one, other = (torch.tensor(value, dtype=torch.float32, device=like.device) for value in (mean, deviation))
    return one.view(1, -1, 1, 1), other.view(1, -1, 1, 1)


@torch.no_grad()
def encode(vae: Vae, images: np.ndarray, batch: int = 8) -> Tensor:
    """(N, H, W) uint8 -> (N, C, h, w) float32 latents on the CPU, in the mixed precision of training."""
    device = next(vae.parameters()).device
    found = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch, None].astype(np.float32) / 127.5 - 1).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            found.append(to_latents(vae, x.contiguous(memory_format=torch.channels_last), batch).cpu())
    return torch.cat(found)


@torch.no_grad()
def decode(vae: Vae, latents: Tensor, batch: int = 8) -> np.ndarray:
    """(N, C, h, w) latents -> (N, H, W) uint8, in the mixed precision of training."""
    device = next(vae.parameters()).device
    found = []
    for some in latents.split(batch):
        z = some.to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            found.append(to_gray(to_images(vae, z, batch))[0].cpu().numpy())
    return np.concatenate(found)


def encoder_digest(vae: Vae) -> str:
    """sha256 of the weights that make latents; a decoder that was trained further fits the same latents."""
    encoder = {**vae.encoder.state_dict(), **vae.quant_conv.state_dict()}
    return sha256(b"".join(value.cpu().numpy().tobytes() for value in encoder.values()))


@torch.no_grad()
def whiten(vae: Vae, images: np.ndarray) -> None:
    """Give every latent channel mean 0 and deviation 1 over these images, by changing the 1x1 convolutions only.

    z' = (z - m) / s goes into ``quant_conv``, z = s z' + m into ``post_quant_conv``: reconstructions stay the same.
    """
    latents = encode(vae, images)
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    mean, deviation = (v.to(next(vae.parameters()).device) for v in (mean, deviation))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= deviation[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / deviation
    quant.bias[channels:] -= 2 * deviation.log()  # the second half are log-variances
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= deviation[None, :, None, None]
