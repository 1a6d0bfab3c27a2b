"""Where the class phrases look on real images: add noise, denoise once, read the maps, compare with people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from cxrsynth.data.dataset import read_images, rows
from cxrsynth.data.patients import patient_id
from cxrsynth.domain.overlap import dice
from cxrsynth.evaluate.results import Record, bootstrap, record
from cxrsynth.masks.attention import Joint
from cxrsynth.nets.attention import observe_cross
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.bundle import Pipeline
from cxrsynth.nets.taps import KeySource, Taps, class_text, column_weights, merge_levels, token_columns
from cxrsynth.nets.text import ids
from cxrsynth.store import Store

PHRASES = {"right_lung": "right lung", "left_lung": "left lung", "heart": "heart"}
TIMESTEPS = (100, 250, 400)
LEVELS = (1, 2)
BATCH = 8


@torch.inference_mode()
def read_maps(
    whole: Pipeline,
    images: np.ndarray,
    phrases: Sequence[str],
    timesteps: Sequence[int] = TIMESTEPS,
    levels: Sequence[int] = LEVELS,
    prompt: str = "",
    seed: int = 0,
) -> np.ndarray:
    """Class maps of real images.

    Args:
        images: (N, H, W) uint8 of the size the model draws.
        timesteps: how much noise is added, one pass of the UNet each; the maps are averaged.
        prompt: what the images are said to show; nothing by default, so that no caption helps.

    Returns:
        (N, K, h, w) float32 on the finest grid.
    """
    latents = encode(whole.vae, images)
    device = whole.unet.device
    text = class_text(phrases)
    columns = token_columns(whole.tokenizer, text, phrases)
    context = whole.text_encoder(ids(whole.tokenizer, [text]).to(device)).last_hidden_state
    empty = whole.text_encoder(ids(whole.tokenizer, [prompt]).to(device)).last_hidden_state
    source = KeySource(context, column_weights(columns, context.shape[1]).to(device))
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(latents.shape, np.float32))
    found: list[Tensor] = []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        taps = Taps([source], (latents.shape[-2], latents.shape[-1]), slice(None), levels)
        with observe_cross(whole.unet, taps):
            for t in timesteps:
                step = torch.full((len(latents[part]),), t, device=device)
                noisy = whole.scheduler.add_noise(latents[part].to(device), noise[part].to(device), step)
                whole.unet(noisy, step, empty.expand(len(noisy), -1, -1))
        found.append(merge_levels(taps.maps(), normalise=False))
    return torch.cat(found).cpu().numpy()


def label(maps: np.ndarray, size: int) -> np.ndarray:
    """(N, K, h, w) -> (N, size, size) uint8 class numbers from 1, with the defaults of generation and no refinement."""
    weigh = Joint()
    labels = []
    for one in maps:
        prob = weigh(one, size, size, np.ones(len(one), bool)).prob
        rest = 1 - prob.sum(axis=0, keepdims=True)
        labels.append(np.concatenate([rest, prob]).argmax(axis=0).astype(np.uint8))
    return np.stack(labels)


def localisation(
    model: Path, data: Path, split: str = "test", source: str = "wingspan", seed: int = 0, device: str = "cpu"
) -> list[Record]:
    """Dice per class of unrefined attention labels on held-out images that people have labelled."""
    store = Store(data)
    classes = store.classes()
    wanted = {name: phrase for name, phrase in PHRASES.items() if name in classes}
    chosen = rows(data, (split,), lambda row: row["source"] == source and set(wanted) <= set(row["mask_classes"]))
    images = read_images(data, chosen)
    whole = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32).to(device)
    labels = label(read_maps(whole, images, list(wanted.values()), seed=seed), images.shape[1])
    people = np.stack([store.load_mask(row) for row in chosen])  # type: ignore[misc]
    patients = [patient_id(row) for row in chosen]
    records, scores = [], []
    for number, klass in enumerate(wanted, start=1):
        values = dice(labels == number, people == classes[klass])
        scores.append(values)
        figures = bootstrap(values, patients)
        records.append(record("taps", "raw", f"{source}:{split}", "dice", figures, len(values), klass, [seed]))
    mean = bootstrap(np.mean(scores, axis=0), patients)
    records.append(record("taps", "raw", f"{source}:{split}", "dice", mean, len(chosen), "mean", [seed]))
    return records
