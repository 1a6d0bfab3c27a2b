"""Sample sheets: what the model draws now for fixed prompts and seeds, with its class maps as outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from cxrsynth.nets.attention import observe_cross
from cxrsynth.nets.bundle import Pipeline
from cxrsynth.nets.taps import KeySource, Taps, class_text, column_weights, merge_levels, token_columns
from cxrsynth.nets.text import ids
from cxrsynth.pages.sheet import Item, contact_sheet


@torch.no_grad()
def draw(
    whole: Pipeline,
    prompts: Sequence[str],
    phrases: Sequence[str],
    levels: Sequence[int],
    steps: int,
    guidance: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """One image per prompt: images (N, H, W) uint8, and labels (N, H, W) uint8 read from the maps alone.

    A pixel belongs to the class with the strongest map if that is above half of the class maps' common maximum.
    """
    device = whole.unet.device
    text = class_text(phrases)
    columns = token_columns(whole.tokenizer, text, phrases)
    context = whole.text_encoder(ids(whole.tokenizer, [text]).to(device)).last_hidden_state
    weights = column_weights(columns, context.shape[1]).to(device)
    side = whole.unet.config.sample_size
    taps = Taps([KeySource(context, weights)], (side, side), slice(len(prompts), None), levels)
    noise = [torch.Generator("cpu").manual_seed(seed + i) for i in range(len(prompts))]
    whole.set_progress_bar_config(disable=True)
    with observe_cross(whole.unet, taps), torch.autocast(device.type, torch.bfloat16):
        drawn = whole(
            list(prompts),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=noise,
            output_type="np",
        ).images  # (N, H, W, 1) in 0..1
    images = (np.nan_to_num(drawn[..., 0]) * 255).round().astype(np.uint8)
    maps = merge_levels(taps.maps(), normalise=False)
    maps = F.interpolate(maps, size=images.shape[1:], mode="bicubic", align_corners=False)
    strongest, which = maps.max(dim=1)
    labels = torch.where(strongest > 0.5 * strongest.amax(dim=(1, 2), keepdim=True), which + 1, 0)
    return images, labels.byte().cpu().numpy()


def sheet(
    path: Path, images: np.ndarray, labels: np.ndarray, prompts: Sequence[str], names: Sequence[str], title: str
) -> None:
    """Write the sheet as a PNG, as a whole."""
    items = [Item(image, mask, text=prompt) for image, mask, prompt in zip(images, labels, prompts, strict=True)]
    legend = {name: i for i, name in enumerate(names, start=1)}
    temporary = path.with_name(f".tmp-{path.name}")
    contact_sheet(items, columns=3, legend=legend, title=title).save(temporary, "PNG")
    temporary.replace(path)
