"""Maps of findings on real images, one source each: a model's attention, a dataset, a segmentation network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from cxrsynth.errors import UsageError
from cxrsynth.masks.walk import resize
from cxrsynth.nets.attention import observe_cross
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.bundle import Pipeline
from cxrsynth.nets.segmenter import Segmenter, squash
from cxrsynth.nets.taps import KeySource, Taps, column_weights, merge_levels, token_columns
from cxrsynth.nets.text import ids
from cxrsynth.records import Row
from cxrsynth.store import Store

LEVELS = (1, 2)
TIMESTEPS = (100, 250, 400)
# A phrase or class -> (N, H, W) float maps of the images in a list.
Maps = dict[str, list[np.ndarray]]
# Rows and (H, W) uint8 images of one batch -> maps of every phrase, at the size of the images.
Read = Callable[[list[Row], list[np.ndarray]], Maps]


def attention(
    model: Path,
    phrases: Sequence[str],
    against: str = "",
    timesteps: Sequence[int] = TIMESTEPS,
    seed: int = 0,
    device: str = "cpu",
) -> Read:
    """A reader of a diffusion model's cross-attention: every phrase from a text of its own.

    Args:
        against: a phrase that stands in every text; a map is then the phrase's share of the two, so that it says how
            much more the phrase looks at a place than nothing particular does.
        timesteps: how much noise is added; the maps of all are averaged.
    """
    whole: Pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32).to(device)
    size = int(whole.unet.config.sample_size) * 2 ** (len(whole.vae.config.block_out_channels) - 1)
    texts = [f"{phrase}, {against}" if against else phrase for phrase in phrases]
    sources = []
    for place, (phrase, text) in enumerate(zip(phrases, texts, strict=True)):
        context = whole.text_encoder(ids(whole.tokenizer, [text]).to(device)).last_hidden_state
        columns: list[list[int]] = [[] for _ in range(2 * len(phrases))]
        columns[place], columns[len(phrases) + place] = token_columns(whole.tokenizer, text, [phrase, against or "?"])
        sources.append(KeySource(context, column_weights(columns, context.shape[1]).to(device)))
    empty = whole.text_encoder(ids(whole.tokenizer, [""]).to(device)).last_hidden_state

    @torch.inference_mode()
    def read(rows: list[Row], images: list[np.ndarray]) -> Maps:
        latents = encode(whole.vae, np.stack([squash(image, size) for image in images])).to(device)
        taps = Taps(sources, (latents.shape[-2], latents.shape[-1]), slice(None), LEVELS)
        noise = np.stack([_noise(seed, row["key"], latents.shape[1:]) for row in rows])
        with observe_cross(whole.unet, taps):
            for t in timesteps:
                step = torch.full((len(latents),), t, device=device)
                noisy = whole.scheduler.add_noise(latents, torch.from_numpy(noise).to(device), step)
                whole.unet(noisy, step, empty.expand(len(noisy), -1, -1))
        maps = merge_levels(taps.maps(), normalise=False).cpu().numpy()  # (B, 2K, h, w)
        own, other = maps[:, : len(phrases)], maps[:, len(phrases) :]
        shares = own / np.maximum(own + other, 1e-12) if against else own
        return {
            phrase: [resize(shares[i, place], *images[i].shape) for i in range(len(images))]
            for place, phrase in enumerate(phrases)
        }

    return read


def _noise(seed: int, key: str, shape: Sequence[int]) -> np.ndarray:
    """The noise of an image, by its key: it does not depend on what is read beside it."""
    number = int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8], "big")
    return np.random.default_rng(number).standard_normal(tuple(shape), np.float32)


def stored(predicted: Path, classes: Sequence[str]) -> Read:
    """A reader of a dataset with maps, layers or masks of the same images, whichever says most.

    Raises:
        UsageError: a class or an image is missing there.
    """
    store = Store(predicted)
    known = store.classes()
    missing = [name for name in classes if name not in known]
    if missing:
        raise UsageError(f"{predicted} has no class '{missing[0]}'", f"it has: {', '.join(known)}")
    held = {row["key"]: row for row in store.rows()}

    def one(row: Row, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
        if row["key"] not in held:
            raise UsageError(f"{predicted} has nothing of {row['key']}", "predict the same images")
        mine = held[row["key"]]
        maps, layers, mask = store.load_maps(mine), store.load_layers(mine, len(known)), store.load_mask(mine)
        for place, (name, number) in enumerate(known.items()):
            if name not in classes:
                continue
            if maps is not None and "maps" in maps:
                yield name, resize(maps["maps"][place].astype(np.float32), *shape)
            elif layers is not None:
                yield name, layers[place].astype(np.float32)
            elif mask is not None:
                yield name, (mask == number).astype(np.float32)

    def read(rows: list[Row], images: list[np.ndarray]) -> Maps:
        found: Maps = {name: [] for name in classes}
        for row, image in zip(rows, images, strict=True):
            for name, drawn in one(row, image.shape):
                found[name].append(drawn)
        return found

    return read


def segmented(segmenter: Segmenter, classes: Sequence[str]) -> Read:
    """A reader of a segmentation network's probabilities.

    Raises:
        UsageError: the network does not know a class.
    """
    missing = [name for name in classes if name not in segmenter.classes]
    if missing:
        raise UsageError(f"the network knows no class '{missing[0]}'", f"it knows: {', '.join(segmenter.classes)}")

    @torch.inference_mode()
    def read(rows: list[Row], images: list[np.ndarray]) -> Maps:
        small = np.stack([squash(image, segmenter.size) for image in images])[:, None].astype(np.float32) / 255
        prob = segmenter.network(torch.from_numpy(small).to(segmenter.device)).float().softmax(dim=1).cpu().numpy()
        return {
            name: [resize(prob[i, 1 + segmenter.classes.index(name)], *image.shape) for i, image in enumerate(images)]
            for name in classes
        }

    return read
