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
from cxrsynth.data.config import AugmentConfig
from cxrsynth.data.dataset import read_images, trainable
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.latents import warp
from cxrsynth.data.places import Place, find
from cxrsynth.domain import regions
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.domain.lexicon import MARKER, found, is_normal, words_on_findings
from cxrsynth.encoding import dumps, npz, sha256
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.files import write_atomic
from cxrsynth.nets import auxiliary, noise
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.base import Base, load_base
from cxrsynth.nets.config import NoiseConfig, WhatConfig
from cxrsynth.nets.pathology import KEY, Adapter
from cxrsynth.nets.segmenter import Segmenter, load
from cxrsynth.nets.text import ids
from cxrsynth.records import Row
from cxrsynth.store import Store
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.pathology.config import PathologyConfig
from cxrsynth.weights import Weights


@dataclass(frozen=True, slots=True)
class Lesions:
    """Images with regions to learn from.

    Attributes:
        rows: of N images.
        masks: (N, H, W) uint8 ids of `cxrsynth.domain.anatomy.CLASSES`.
        latents: (V, N, C, h, w) float32, in V tones.
        places: finding -> regions; the empty finding has the clear ones.
    """

    rows: list[Row]
    masks: np.ndarray
    latents: Tensor
    places: dict[str, list[Place]]


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

    def __init__(self, base: Base, lesions: Lesions, config: PathologyConfig, stem: str, identity: str) -> None:
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


def fitting(data: Path, config: PathologyConfig) -> list[Row]:
    """Training images of adults that are normal or have a finding of the config."""

    def fits(row: Row) -> bool:
        text = words_on_findings(row)
        asked = any(found(text, label) for labels in config.findings.values() for label in labels)
        return trainable(row) and row.get("population") != "pediatric" and (asked or is_normal(text))

    return read_rows(data, ("train",), fits)


def look_at(
    data: Path, rows: list[Row], base: Base, labeller: Segmenter, config: PathologyConfig, cache: Path, digest: str
) -> Lesions:
    """Anatomy, latents and places of the images; read once and kept in ``cache``.

    Raises:
        MismatchError: the segmenter does not know lungs and heart.
        UsageError: the images have another size than the model's.
    """
    missing = [name for name in CLASSES if name not in labeller.classes]
    if missing:
        raise MismatchError(
            f"the segmenter knows {', '.join(labeller.classes)}, not {missing[0]}", "train it on all three"
        )
    images = read_images(data, rows)
    if images.shape[1:] != (base.size, base.size):
        raise UsageError(
            f"the images have {images.shape[2]}x{images.shape[1]} pixels, the model sees {base.size}x{base.size}",
            f"ingest them with --size {base.size}",
        )
    kept: dict[str, np.ndarray] = {}
    if cache.exists():
        with np.load(cache) as stored:
            kept = {name: stored[name] for name in stored.files} if str(stored["digest"]) == digest else {}
    if not kept:
        masks = np.zeros_like(images)
        for mask, seen in zip(masks, labeller(list(images)), strict=True):
            for name, number in CLASSES.items():
                mask[seen == labeller.classes.index(name) + 1] = number
        rng = np.random.default_rng(config.seed)
        tone = AugmentConfig(shift=0, scale=0, rotate=0, gamma=config.gamma)
        latents = []
        for variant in range(config.variants):
            toned = images if not variant else np.stack([warp(image, [], tone, rng)[0] for image in images])
            latents.append(encode(base.vae, toned).numpy().astype(np.float16))
        kept = {"digest": np.array(digest), "masks": masks, "latents": np.stack(latents)}
        write_atomic(cache, npz(kept))
    places: dict[str, list[Place]] = {}
    for place in find(rows, images, kept["masks"], config):
        places.setdefault(place.finding, []).append(place)
    return Lesions(rows, kept["masks"], torch.from_numpy(kept["latents"]).float(), places)


def sentence(row: Row, place: Place, plain: bool) -> str:
    """What the model reads to a region: the image's own caption with the finding and its place, or without any."""
    head, _, own = str(row["prompt"]).partition(MARKER)
    if plain:
        head = f"Frontal chest X-ray, {row.get('view') or 'PA'} view. "
    return f"{head.rstrip()} {MARKER} " + (f"{place.finding} in the {place.region}." if place.finding else own.strip())


def finish(
    out: Path, adapter: Adapter, weights: Weights, config: PathologyConfig, lesions: Lesions, labeller: Segmenter
) -> dict[str, Any]:
    """Write the adapter with what it says of itself."""
    counts = {name or "clear": len(places) for name, places in lesions.places.items()}
    images = {name or "clear": len({place.image for place in own}) for name, own in lesions.places.items()}
    result = {"model": weights.digest, "regions": counts, "images": images}
    net = {"rank": config.rank, "targets": list(config.targets)}
    how = {"recipe": config.model_dump(mode="json"), "segmenter_sha256": labeller.config["sha256"]}
    tensors = {name: value.half() for name, value in adapter.parameters.items()}
    return {**auxiliary.write(out, KEY, net, tensors, {**result, "training": how}), **result}
