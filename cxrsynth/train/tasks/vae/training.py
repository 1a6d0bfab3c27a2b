"""The autoencoder: one gray channel at 256 pixels <-> latents at 32, a plain diffusers AutoencoderKL.

Two phases in one training. First encoder and decoder learn together from L1, gradient and perceptual loss, on random
crops and, every few updates, on whole images. From ``decoder_from`` on the encoder rests, so that latents no longer
change (a denoiser may start), and a patch discriminator teaches the decoder the texture that no average error rewards.

Latents that are halved in size shall decode to the image halved in size: without this their fine frequencies mean
nothing that a denoiser could learn (Skorokhodov et al., arXiv 2502.14831; EQ-VAE, arXiv 2502.09509).

After training the latents are whitened per channel inside the 1x1 convolutions next to them, exactly, so that
``scaling_factor`` is 1 and every channel has mean 0 and deviation 1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrsynth.alone import alone
from cxrsynth.data.dataset import read_images, rows, trainable
from cxrsynth.data.sharpness import relative
from cxrsynth.encoding import sha256
from cxrsynth.files import publish
from cxrsynth.nets.autoencoder import decode, encode, whiten
from cxrsynth.nets.discriminator import PatchDiscriminator
from cxrsynth.nets.imagenet import Perceptual
from cxrsynth.nets.losses import gradient_difference
from cxrsynth.nets.reconstruct import Reconstruct, build
from cxrsynth.pages.reconstruction import sheet
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.vae.config import VaeConfig

SAMPLE_FOR_STATISTICS = 200


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees: (B, 1, H, W) images in -1..1, latent noise, and a shift for the perceptual loss."""

    x: Tensor
    noise: Tensor
    shift: tuple[int, int]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(self.x.to(device, memory_format=torch.channels_last), self.noise.to(device), self.shift)


class VaeTask:
    """See `cxrsynth.train.task.Task`.

    Args:
        images: (N, S, S) uint8 training images.
        held_out: (M, S, S) uint8 images to validate on.
    """

    stem, score = "vae", ""
    shown: Sequence[str] = ("autoencoder", "l1", "perceptual", "psnr", "gradient_energy", "power_32_64", "power_64_128")

    def __init__(self, images: np.ndarray, held_out: np.ndarray, config: VaeConfig, run: Path) -> None:
        self.images, self.held_out, self.config, self.run = images, held_out, config, run
        torch.manual_seed(config.seed)
        shape = (config.block_out_channels, config.layers_per_block, config.latent_channels, config.norm_groups)
        self.model = Reconstruct(build(images.shape[1], *shape)).to(memory_format=torch.channels_last)
        self.discriminator = PatchDiscriminator().to(memory_format=torch.channels_last)
        self.perceptual = Perceptual() if config.perceptual_weight else None
        self.identity = sha256(f"{config.digest(*FREE, 'decoder_from')} {len(images)}".encode())
        # From the second phase on the encoder rests at its average: the decoder learns on the latents that come out.
        rests = {config.second_phase: ("vae.encoder.", "vae.quant_conv.")}
        self.turns = [Turn("autoencoder", self.model, self.reconstruct, rests=rests)]
        if config.adversary_weight:
            since = config.second_phase
            self.turns.append(Turn("discriminator", self.discriminator, self.discriminate, config.adversary_lr, since))

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """Crops at random places of random images, or whole images."""
        config, size = self.config, self.images.shape[1]
        whole = config.whole_every > 0 and update % config.whole_every == 0
        side = size if whole else min(config.crop, size)
        count = max(1, round(config.batch * (config.crop / size) ** 2)) if whole else config.batch
        which = rng.integers(len(self.images), size=count)
        corners = rng.integers(size - side + 1, size=(count, 2))
        cut = [self.images[i, y : y + side, x : x + side] for i, (y, x) in zip(which, corners, strict=True)]
        x = torch.from_numpy(np.stack(cut)[:, None].astype(np.float32) / 127.5 - 1)
        small = side // 2 ** (len(config.block_out_channels) - 1)
        noise = rng.standard_normal((count, config.latent_channels, small, small), np.float32)
        down, right = rng.integers(8, size=2)
        return Batch(x, torch.from_numpy(noise), (int(down), int(right)))

    def reconstruct(self, model: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """L1, gradient, perceptual and KL loss; in the second phase the discriminator's opinion too."""
        config, x = self.config, batch.x
        second = update >= config.second_phase
        y, kl, small = model(x, None if second else batch.noise, config.half_weight > 0)
        y = y.float()
        l1, gradient = F.l1_loss(y, x), gradient_difference(y, x)
        loss = l1 + config.gradient_weight * gradient + config.kl_weight * kl
        figures = {"l1": l1.item(), "gradient": gradient.item(), "kl": kl.item()}
        if small is not None:
            target = F.avg_pool2d(x, 2)
            half = F.l1_loss(small.float(), target) + gradient_difference(small.float(), target)
            loss = loss + config.half_weight * half
            figures["half"] = half.item()
        if self.perceptual is not None:
            self.perceptual.to(x.device)
            perceptual = self.perceptual(y, x, batch.shift)
            loss = loss + config.perceptual_weight * perceptual
            figures["perceptual"] = perceptual.item()
        if second and config.adversary_weight:
            fooled = -self.discriminator(y).float().mean()
            scale = balance(loss, fooled, y)
            loss = loss + config.adversary_weight * scale * fooled
            figures |= {"fooled": fooled.item(), "scale": scale.item()}
        return loss, figures

    def discriminate(self, discriminator: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """Hinge loss: real images above 1, reconstructions below -1."""
        with torch.no_grad():
            y, _, _ = self.model(batch.x, None, False)
        real, made = discriminator(batch.x).float(), discriminator(y.float().detach()).float()
        loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())
        return loss, {"real": real.mean().item(), "made": made.mean().item()}

    def look(self, network: nn.Module, update: int) -> Figures:
        """PSNR in dB and sharpness of held-out reconstructions; writes a sheet."""
        assert isinstance(network, Reconstruct)
        again = decode(network.vae, encode(network.vae, self.held_out))
        error = ((self.held_out.astype(np.float32) - again) ** 2).mean(axis=(1, 2))
        psnr = float((10 * np.log10(255**2 / np.maximum(error, 1e-6))).mean())
        sheet(self.run / f"vae-{update:06d}.png", self.held_out[:6], again[:6])
        sharpness = {name: float(values.mean()) for name, values in relative(again, self.held_out).items()}
        return {"psnr": psnr, **sharpness}


def balance(loss: Tensor, fooled: Tensor, y: Tensor) -> Tensor:
    """How many times the gradient at the image of ``loss`` is that of ``fooled`` (Esser et al., CVPR 2021, eq. 7).

    So the weight of the adversary means the same whatever the scale of its scores.
    """
    ours = torch.autograd.grad(loss, y, retain_graph=True)[0].norm()
    theirs = torch.autograd.grad(fooled, y, retain_graph=True)[0].norm()
    return (ours / (theirs + 1e-8)).clamp(0, 1e4).detach()


@alone
def train_vae(data: Path, run: Path, config: VaeConfig, device: str = "auto", on_step: Progress | None = None) -> Path:
    """Train the autoencoder on the training images of ``data``; the result is ``run/vae``.

    Running the same command again goes on at the last checkpoint, with the same result as without the break.
    """
    run.mkdir(parents=True, exist_ok=True)
    accelerator = accelerate(device)
    pixels = read_images(data, rows(data, ("train",), trainable))
    held_out = rows(data, ("val",), trainable)
    few = np.random.default_rng(0).permutation(len(held_out))[:96]
    task = VaeTask(pixels, read_images(data, [held_out[i] for i in few]), config, run)
    task.discriminator.to(accelerator.device)
    trained = train(task, run, config, accelerator, on_step)
    if accelerator.is_main_process:
        publish_vae(run / "vae", trained.network, pixels)
    accelerator.wait_for_everyone()
    return run / "vae"


def publish_vae(folder: Path, average: nn.Module, images: np.ndarray) -> None:
    """Write the averaged autoencoder with whitened latents as a diffusers folder."""
    assert isinstance(average, Reconstruct)
    vae = copy.deepcopy(average.vae).float().cpu().eval()
    whiten(vae, images[:: max(1, len(images) // SAMPLE_FOR_STATISTICS)])
    publish(folder, vae.save_pretrained)
