"""Training of the adapter that draws findings into regions (XReal's pathology controller, arXiv 2403.09240).

The denoiser sees whole noisy images, as it does while a region is generated anew in a finished image, and the loss
looks at the region: words learn what lies *there*. Only a LoRA learns; the model and its attention stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrsynth.alone import alone
from cxrsynth.data.finding_zones import ZonedImages, fitting, look_at, sentence
from cxrsynth.domain import regions
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import UsageError
from cxrsynth.nets import auxiliary, noise
from cxrsynth.nets.base import Base, load_base
from cxrsynth.nets.config import NoiseConfig, WhatConfig
from cxrsynth.nets.pathology import KEY, Adapter
from cxrsynth.nets.segmenter import Segmenter, load
from cxrsynth.nets.text import ids
from cxrsynth.store import Store
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.pathology.config import PathologyConfig
from cxrsynth.weights import Weights


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees.

    Attributes:
        latents: (B, C, h, w) float32.
        noise: as latents.
        timesteps: (B,) int64.
        ids: (B, T) int64 tokens of the prompts.
        weight: (B, 1, h, w) float32, how much a place counts.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    ids: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        moved = (self.latents, self.noise, self.timesteps, self.ids, self.weight)
        return Batch(*(one.to(device) for one in moved))


class PathologyTask:
    """See `cxrsynth.train.task.Task`."""

    score, shown = "", ("loss",)

    def __init__(self, base: Base, lesions: ZonedImages, config: PathologyConfig, stem: str, identity: str) -> None:
        self.base, self.lesions, self.config, self.stem, self.identity = base, lesions, config, stem, identity
        self.turns = [Turn("loss", base.unet, self.step)]

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """Regions of images, each with what is said of it; the region counts most."""
        base, lesions, config = self.base, self.lesions, self.config
        side = lesions.latents.shape[-1]
        chances = [config.normal if not name else (1 - config.normal) / len(config.findings) for name in lesions.places]
        texts, latents, weights = [], [], []
        for _ in range(config.batch):
            own = list(lesions.places.values())[rng.choice(len(chances), p=chances)]
            place = own[rng.integers(len(own))]
            region = regions.resolve(place.region, lesions.masks[place.image])
            if rng.random() < config.blob:
                region = regions.blob(region, int(rng.integers(2**31)))
            cells = F.adaptive_max_pool2d(torch.from_numpy(region.astype(np.float32))[None], side)  # (1, h, w)
            weights.append((1 - config.elsewhere) * cells / cells.mean() + config.elsewhere)
            latents.append(lesions.latents[rng.integers(len(lesions.latents)), place.image])
            said = sentence(lesions.rows[place.image], place, plain=rng.random() < config.plain)
            texts.append("" if rng.random() < config.dropout else said)
        clean = torch.stack(latents)
        drawn = noise.draw_noise(rng, tuple(clean.shape), 0.0)
        timesteps = noise.draw_timesteps(rng, config.batch, base.schedule.config.num_train_timesteps)
        return Batch(clean, drawn, timesteps, ids(base.tokenizer, texts), torch.stack(weights))

    def step(self, denoiser: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """Mean squared error, of which the region of each image counts most."""
        schedule = self.base.schedule
        with torch.no_grad():
            words = self.base.text_encoder(batch.ids)[0]
        wanted = noise.target(schedule, batch.latents, batch.noise, batch.timesteps)
        noisy = schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        said_noise = denoiser(noisy, batch.timesteps, words).sample
        return (batch.weight * (said_noise.float() - wanted) ** 2).mean(), {}

    def look(self, network: nn.Module, update: int) -> Figures:
        """Nothing: whether findings appear where they are asked for is measured by ``evaluate control``."""
        return {}


@alone
def train_pathology(
    data: Path,
    out: Path,
    weights: Weights,
    config: PathologyConfig,
    segmenter: Path,
    device: str = "auto",
    on_step: Progress | None = None,
) -> dict[str, Any]:
    """Train on the adults of the ``train`` split of ``data`` and write the LoRA to ``out`` in float16.

    Running the same command again goes on at the last checkpoint, with the same result as without the break.

    Args:
        data: ingested images with findings in words; no masks are needed.
        out: ``.safetensors`` file; checkpoint, log and what was read of the images lie beside it.
        segmenter: run folder of ``train-seg`` that finds lungs and heart.

    Returns:
        What came of it: file, sha256, size, regions by finding, loss.

    Raises:
        UsageError: no image fits, none shows a finding, or ``out`` does not end in ``.safetensors``.
        MismatchError: the checkpoint beside ``out`` is of other data, another model or config.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} does not end in .safetensors", "for example: -o pathology.safetensors")
    accelerator = accelerate(device, config.precision)
    rows = fitting(data, config)
    base = load_base(weights, WhatConfig(), NoiseConfig())
    base.vae.to(accelerator.device)
    labeller = load(segmenter, accelerator.device)
    digest = sha256(
        dumps(
            [
                config.digest(*FREE),
                [row["key"] for row in rows],
                sorted({receipt.fingerprint for receipt in Store(data).receipts()}),
                weights.digest,
                labeller.config["sha256"],
            ]
        )
    )
    lesions = look_at(data, rows, base, labeller, config, out.with_suffix(".images.npz"), digest)
    torch.manual_seed(config.seed)
    adapter = Adapter(base.unet, config.rank, config.targets)
    adapter.switch(True)
    base.text_encoder.to(accelerator.device).eval()
    task = PathologyTask(base, lesions, config, out.stem, digest)
    train(task, out.parent, config, accelerator, on_step)
    result: dict[str, Any] = {}
    if accelerator.is_main_process:
        result = finish(out, adapter, weights, config, lesions, labeller)
    accelerator.wait_for_everyone()
    return result


def finish(
    out: Path, adapter: Adapter, weights: Weights, config: PathologyConfig, lesions: ZonedImages, labeller: Segmenter
) -> dict[str, Any]:
    """Write the adapter with what it says of itself."""
    counts = {name or "clear": len(places) for name, places in lesions.places.items()}
    images = {name or "clear": len({place.image for place in own}) for name, own in lesions.places.items()}
    result = {"model": weights.digest, "regions": counts, "images": images}
    net = {"rank": config.rank, "targets": list(config.targets)}
    how = {"recipe": config.model_dump(mode="json"), "segmenter_sha256": labeller.config["sha256"]}
    tensors = {name: value.half() for name, value in adapter.parameters.items()}
    return {**auxiliary.write(out, KEY, net, tensors, {**result, "training": how}), **result}
