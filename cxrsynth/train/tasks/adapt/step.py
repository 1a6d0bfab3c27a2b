"""One update of an adaptation, and what is looked at in between.

A batch is a function of (seed, step, process); its gradients are summed over parts of any size.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from cxrsynth.data.captions import caption
from cxrsynth.data.latents import Draws, Latents
from cxrsynth.errors import CxrError
from cxrsynth.nets import bundle
from cxrsynth.nets.text import ids
from cxrsynth.train import noise, preview
from cxrsynth.train.diffusion import Batch
from cxrsynth.train.grounding import grounding_loss
from cxrsynth.train.tasks.adapt.setup import Setup


def make_batch(latents: Latents, draws: Draws, setup: Setup, rng: np.random.Generator) -> Batch:
    """Images, words, noise and timesteps of one update; the images with masks come first."""
    recipe = setup.recipe
    config, steps = recipe.adapt, setup.base.schedule.config.num_train_timesteps
    grounded = min(recipe.grounding.images_per_batch, config.batch) if len(latents.masked) else 0
    places, masked = draws(rng, config.batch, grounded)
    texts = []
    for place in places:
        row = latents.rows[latents.image[place]]
        dropped = rng.random() < recipe.words.dropout
        varied = caption(row, rng, recipe.captions) if recipe.words.style == "varied" else ""
        texts.append("" if dropped else varied or setup.words[row["key"]])
    values = latents.values[places]
    drawn = noise.draw_noise(rng, tuple(values.shape), recipe.noise.offset)
    timesteps = noise.draw_timesteps(rng, config.batch, steps)
    return Batch(values, drawn, timesteps, ids(setup.base.tokenizer, texts), latents.masks[masked])


def update(
    denoiser: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, batch: Batch, setup: Setup
) -> dict[str, float]:
    """One update from the parts of a batch; returns its figures.

    Raises:
        CxrError: the loss is no number; no weight has been changed by it.
    """
    config, total = setup.recipe.adapt, len(batch.latents)
    size = config.micro or total
    sums: dict[str, float] = {}
    optimizer.zero_grad(set_to_none=True)
    for start in range(0, total, size):
        part = slice_of(batch, start, start + size)
        alone = start + size < total and accelerator.num_processes > 1
        with accelerator.no_sync(denoiser) if alone else nullcontext():
            values = losses(denoiser, part, setup)
            share, seen = len(part.latents) / total, len(part.masks) / max(1, len(batch.masks))
            loss = share * values["loss"]
            for name, weight in (("ratio", "token_weight"), ("pixel", "pixel_weight")):
                if name in values:
                    loss = loss + seen * getattr(setup.recipe.grounding, weight) * values[name]
                    sums[name] = sums.get(name, 0.0) + seen * float(values[name].detach())
            sums["loss"] = sums.get("loss", 0.0) + share * float(values["loss"].detach())
            accelerator.backward(loss)
    if not all(math.isfinite(value) for value in sums.values()):
        raise CxrError(
            f"the loss is no number any more: {sums}", "run it again with a smaller --set adapt.lr and another -o"
        )
    sums["norm"] = float(accelerator.clip_grad_norm_(setup.trained(), config.clip))
    optimizer.step()
    return sums


def slice_of(batch: Batch, start: int, stop: int) -> Batch:
    """The images from ``start`` to ``stop`` with the masks of those that have some."""
    here = slice(start, stop)
    return Batch(batch.latents[here], batch.noise[here], batch.timesteps[here], batch.ids[here], batch.masks[here])


def losses(denoiser: nn.Module, batch: Batch, setup: Setup) -> dict[str, Tensor]:
    """``loss``, and with masks ``ratio`` and ``pixel``; means over the images of the batch."""
    schedule = setup.base.schedule
    noisy = schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    prediction, maps = denoiser(noisy, batch.timesteps, batch.ids, len(batch.masks))
    wanted = noise.target(schedule, batch.latents, batch.noise, batch.timesteps)
    error = (prediction.float() - wanted).pow(2).mean(dim=(1, 2, 3))
    values = {"loss": (error * noise.weigh(schedule, batch.timesteps, setup.recipe.noise.snr_gamma)).mean()}
    if maps:
        values["ratio"], values["pixel"] = grounding_loss(maps, batch.masks, setup.height)
    return values


@torch.no_grad()
def validate(setup: Setup, held: Latents) -> float:
    """Loss on held-out images with fixed noise and timesteps."""
    setup.denoiser.eval()
    rng = np.random.default_rng(0)
    count, size = len(held.values), setup.recipe.adapt.micro or setup.recipe.adapt.batch
    last = setup.base.schedule.config.num_train_timesteps - 1
    times = torch.from_numpy(np.linspace(0.01 * last, 0.99 * last, count).astype(np.int64))
    texts = [setup.words[held.rows[i]["key"]] for i in held.image]
    device = next(setup.denoiser.parameters()).device
    total = 0.0
    for start in range(0, count, size):
        values = held.values[start : start + size]
        drawn = torch.from_numpy(rng.standard_normal(values.shape, np.float32))
        words = ids(setup.base.tokenizer, texts[start : start + size])
        one = Batch(values, drawn, times[start : start + size], words, held.masks[:0]).to(device)
        total += len(values) * losses(setup.denoiser, one, setup)["loss"].item()
    setup.ready()
    return total / count


def look(run: Path, setup: Setup, ema: EMAModel | None, held: Latents | None, step: int) -> dict[str, float]:
    """Validation loss and a sheet of fixed prompts and seeds with the averaged weights; training goes on as before."""
    recipe, parameters = setup.recipe, setup.trained()
    config, grounding = recipe.adapt, recipe.grounding
    if ema:
        ema.store(parameters)
        ema.copy_to(parameters)
    values = {"validation": validate(setup, held)} if held is not None else {}
    setup.denoiser.eval()
    if config.sheet_prompts:
        base = setup.base
        whole = bundle.pipeline(base.vae, base.unet, base.text_encoder, base.tokenizer, base.schedule)
        phrases, show = list(grounding.phrases.values()), (config.sheet_steps, config.sheet_guidance, config.seed)
        pictures, labels = preview.draw(whole, config.sheet_prompts, phrases, grounding.levels, *show)
        title = f"{recipe.name}, step {step}"
        file = run / f"samples-{step:06d}.png"
        preview.sheet(file, pictures, labels, config.sheet_prompts, list(grounding.phrases), title)
    setup.ready()
    if ema:
        ema.restore(parameters)
    return values
