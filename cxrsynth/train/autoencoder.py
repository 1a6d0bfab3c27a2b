"""The autoencoder: one gray channel at 256 pixels <-> four channels at 32, trained on random crops.

A diffusers AutoencoderKL. After training its latents are whitened per channel inside the 1x1 convolutions next to
them, exactly, so that ``scaling_factor`` is 1 and every channel has mean 0 and deviation 1 for the denoiser.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from cxrsynth.data.dataset import read_images, rows, trainable
from cxrsynth.errors import MissingError
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.bundle import Vae
from cxrsynth.store import publish, sha256
from cxrsynth.train.checkpoint import Checkpoint, finish_the_step, step_rng
from cxrsynth.train.config import VaeConfig
from cxrsynth.train.curves import Curves, Progress
from cxrsynth.train.device import accelerate, agreed
from cxrsynth.train.losses import gradient_difference
from cxrsynth.train.schedule import learning_rate

SAMPLE_FOR_STATISTICS = 200


def build(config: VaeConfig, size: int) -> Vae:
    """An untrained autoencoder for ``size`` pixel images."""
    blocks = len(config.block_out_channels)
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        sample_size=size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def crops(images: np.ndarray, config: VaeConfig, rng: np.random.Generator) -> Tensor:
    """(N, H, W) uint8 -> (batch, 1, crop, crop) float32 in -1..1 at random places of random images."""
    size, side = images.shape[1], min(config.crop, images.shape[1])
    which = rng.integers(len(images), size=config.batch)
    corners = rng.integers(size - side + 1, size=(config.batch, 2))
    cut = [images[i, y : y + side, x : x + side] for i, (y, x) in zip(which, corners, strict=True)]
    return torch.from_numpy(np.stack(cut)[:, None].astype(np.float32) / 127.5 - 1)


class Reconstruct(nn.Module):
    """One pass through the autoencoder as a single call, so that it can be spread over several GPUs."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) in -1..1, (B, C, H/8, W/8) normal noise -> the reconstruction, KL per latent number."""
        posterior = self.vae.encode(x).latent_dist
        reconstruction = self.vae.decode(posterior.mean + posterior.std * noise).sample
        kl = 0.5 * (posterior.mean.float().pow(2) + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        return reconstruction, kl


def train_vae(
    data: Path, run: Path, config: VaeConfig, device: str = "auto", seed: int = 0, on_step: Progress | None = None
) -> Path:
    """Train the autoencoder on the training images of ``data``; the result is ``run/vae``.

    The same command, run again, goes on at the last checkpoint, with the same result as without the break.
    """
    accelerator = accelerate(device)
    images = read_images(data, rows(data, ("train",), trainable))
    torch.manual_seed(seed)
    model = Reconstruct(build(config, images.shape[1])).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
    curves = Curves(run / "vae_log.jsonl")
    digest = sha256(f"{config.digest('steps', 'decoder_steps', 'decoder_lr')} {len(images)} {seed}".encode())
    checkpoint = Checkpoint(run / "vae.ckpt", digest, {"model": model, "optimizer": optimizer})
    start = checkpoint.resume()
    trained, optimizer = accelerator.prepare(model, optimizer)
    curves.cut(start)
    with finish_the_step() as stop:
        for step in range(start, config.steps):
            rng = step_rng(seed, step, accelerator.process_index)
            x = crops(images, config, rng).to(accelerator.device, memory_format=torch.channels_last)
            side = x.shape[-1] // 2 ** (len(config.block_out_channels) - 1)
            noise = rng.standard_normal((len(x), config.latent_channels, side, side), np.float32)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * learning_rate(step, config.steps, config.warmup, 0.05)
            y, kl = trained(x, torch.from_numpy(noise).to(x.device))
            pixel, gradient = F.l1_loss(y, x), gradient_difference(y, x)
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(pixel + config.gradient_weight * gradient + config.kl_weight * kl)
            accelerator.clip_grad_norm_(trained.parameters(), config.clip)
            optimizer.step()
            values = {"l1": pixel.item(), "gradient": gradient.item(), "kl": kl.item()}
            if accelerator.is_main_process:
                curves.add(step, values)
                if checkpoint.due() or stop:
                    checkpoint.save(step + 1)
            if on_step:
                on_step(step + 1, config.steps, values)
            if stop:
                raise KeyboardInterrupt
    if accelerator.is_main_process:
        checkpoint.save(config.steps)
        vae = copy.deepcopy(model.vae).float().eval()
        whiten(vae, images[:: max(1, len(images) // SAMPLE_FOR_STATISTICS)])
        publish(run / "vae", vae.save_pretrained)
        curves.plot(run / "vae_loss.png", ("l1", "gradient", "kl"))
    accelerator.wait_for_everyone()
    return run / "vae"


def train_decoder(
    data: Path, run: Path, config: VaeConfig, device: str = "auto", seed: int = 0, on_step: Progress | None = None
) -> Path:
    """Train the decoder of ``run/vae`` further and leave the latents as they are, so that a denoiser still fits.

    For the time after `train_vae` has been cut short: synthetic images become sharper and the denoiser need not know.
    The same command, run again, goes on at the last checkpoint, with the same result as without the break; once it
    is finished, it does nothing. Other settings then start a further round from what is there.

    Raises:
        MissingError: there is no autoencoder.
        MismatchError: another round is unfinished, or its autoencoder was replaced meanwhile.
    """
    if not (run / "vae/config.json").exists():
        raise MissingError(f"{run / 'vae'} holds no autoencoder", f"type `cxrsynth train-vae DATA -o {run}` first")
    accelerator = accelerate(device)
    images = read_images(data, rows(data, ("train",), trainable))
    vae = AutoencoderKL.from_pretrained(run / "vae").train().to(memory_format=torch.channels_last)
    vae.requires_grad_(False)
    parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    model = Reconstruct(vae)
    optimizer = torch.optim.AdamW(parameters, lr=config.decoder_lr, betas=(0.9, 0.99), weight_decay=0.0)
    digest = sha256(f"{config.digest('steps', 'lr')} {len(images)} {seed}".encode())
    path, now = run / "decoder.ckpt", weights_digest(vae)
    stage = Round.read(path)
    if stage.finished and stage.result == now and stage.digest == digest:
        return run / "vae"
    # A finished round gives way to the next; from an unfinished one we go on, or refuse.
    fresh = stage.finished and stage.start != now
    stage = Round(now, digest) if fresh or not path.exists() else stage
    parts = {"decoder": vae.decoder, "post": vae.post_quant_conv, "optimizer": optimizer, "round": stage}
    checkpoint = Checkpoint(path, sha256(f"{now} {digest}".encode()), parts)
    start = 0 if fresh else checkpoint.resume()
    trained, optimizer = accelerator.prepare(model, optimizer)
    with finish_the_step() as stop:
        for step in range(start, config.decoder_steps):
            x = crops(images, config, step_rng(seed + 1, step, accelerator.process_index))
            x = x.to(accelerator.device, memory_format=torch.channels_last)
            side = x.shape[-1] // 2 ** (len(config.block_out_channels) - 1)
            for group in optimizer.param_groups:
                group["lr"] = config.decoder_lr * learning_rate(step, config.decoder_steps, config.warmup, 0.02)
            y, _ = trained(x, torch.zeros(len(x), config.latent_channels, side, side, device=x.device))
            pixel, gradient = F.l1_loss(y, x), gradient_difference(y, x)
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(pixel + config.gradient_weight * gradient)
            accelerator.clip_grad_norm_(parameters, config.clip)
            optimizer.step()
            stopping = agreed(stop, accelerator)
            if accelerator.is_main_process and (stopping or checkpoint.due()):
                checkpoint.save(step + 1)
            if on_step:
                on_step(step + 1, config.decoder_steps, {"l1": pixel.item(), "gradient": gradient.item()})
            if stopping:
                raise KeyboardInterrupt
    if accelerator.is_main_process:
        # Saved first: killed between the two, the same command puts the result in place.
        stage.result = weights_digest(vae)
        checkpoint.save(config.decoder_steps)
        publish(run / "vae", vae.cpu().eval().save_pretrained)
    accelerator.wait_for_everyone()
    return run / "vae"


@dataclass(slots=True)
class Round:
    """Which training of a decoder a checkpoint belongs to; a part of the checkpoint.

    Attributes:
        start: digest of the autoencoder that it began with.
        digest: of its settings.
        result: digest of the autoencoder that came of it; empty before its end.
    """

    start: str = ""
    digest: str = ""
    result: str = ""

    @property
    def finished(self) -> bool:
        """Whether it has come to its end, or there is none."""
        return bool(self.result) or not self.start

    @classmethod
    def read(cls, path: Path) -> Round:
        """The round of a checkpoint; an empty one without a file."""
        found = cls()
        if path.exists():
            found.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["parts"]["round"])
        return found

    def state_dict(self) -> dict[str, str]:
        """All of it."""
        return {"start": self.start, "digest": self.digest, "result": self.result}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """The reverse."""
        self.start, self.digest, self.result = state["start"], state["digest"], state["result"]


def weights_digest(vae: Vae) -> str:
    """sha256 of all weights of an autoencoder."""
    return sha256(b"".join(value.detach().cpu().numpy().tobytes() for value in vae.state_dict().values()))


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
