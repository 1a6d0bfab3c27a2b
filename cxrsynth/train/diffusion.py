"""Training of the denoiser and its words, from scratch, on cached latents.

v-prediction with zero terminal SNR, weighted so that nearly clean latents do not dominate, classifier-free caption
dropout, an average of the weights that grows with the run, and the grounding loss on the images with reference masks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel
from torch import Tensor
from transformers import CLIPTokenizer

from cxrsynth.data.captions import caption, corpus
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.dataset import trainable
from cxrsynth.data.latents import Draws, Latents, encoder_digest, prepare
from cxrsynth.errors import MissingError, RecipeError
from cxrsynth.nets import bundle
from cxrsynth.nets.denoiser import Denoiser, build_unet
from cxrsynth.nets.taps import class_text, column_weights, token_columns
from cxrsynth.nets.text import build_encoder, build_tokenizer, ids
from cxrsynth.store import Row, Store, dumps, sha256
from cxrsynth.train import noise as noises
from cxrsynth.train import preview
from cxrsynth.train.checkpoint import Checkpoint, finish_the_step, step_rng
from cxrsynth.train.config import FREE, TrainRecipe
from cxrsynth.train.curves import Curves, Progress
from cxrsynth.train.device import accelerate, agreed
from cxrsynth.train.grounding import grounding_loss, plateau
from cxrsynth.train.schedule import learning_rate

FIGURES = ("loss", "validation", "ratio", "pixel")


@dataclass(slots=True)
class Parts:
    """Everything that is trained or needed to train."""

    recipe: TrainRecipe
    tokenizer: CLIPTokenizer
    denoiser: Denoiser
    vae: bundle.Vae
    height: float


@dataclass(slots=True)
class Batch:
    """What one step sees.

    Attributes:
        latents: (B, C, h, w) float32; the first images have masks.
        noise: as latents.
        timesteps: (B,) int64.
        ids: (B, T) int64 caption tokens.
        masks: (n, K, h, w) float32 of the first n images.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    ids: Tensor
    masks: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, name).to(device) for name in ("latents", "noise", "timesteps", "ids", "masks")))


def train_diffusion(
    data: Path, run: Path, recipe: TrainRecipe, device: str = "auto", on_step: Progress | None = None
) -> Path:
    """Train on the training images of ``data`` with the autoencoder in ``run/vae``; the result is ``run/model``.

    The same command, run again, goes on at the last checkpoint, with the same result as without the break. The
    number of steps may be changed in between.
    """
    accelerator = accelerate(device)
    config = recipe.diffusion
    chosen = [
        row for row in read_rows(data, ("train",), trainable) if row["source"] in (config.shares or {row["source"]})
    ]
    parts = build(run, recipe, chosen, accelerator)
    latents, validation = encode_all(data, run, recipe, chosen, parts.vae, accelerator)
    draws = Draws(latents, config.shares)
    grounded = check_grounding(recipe, latents)

    optimizer = torch.optim.AdamW(
        parts.denoiser.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    ema = EMAModel(parts.denoiser.parameters(), decay=config.ema, use_ema_warmup=True, power=config.ema_power)
    digest = sha256(dumps([trained_by(recipe), encoder_digest(parts.vae), [row["key"] for row in chosen]]))
    state = {"denoiser": parts.denoiser, "optimizer": optimizer, "ema": ema}
    checkpoint = Checkpoint(run / "diffusion.ckpt", digest, state, config.checkpoint_minutes)
    start = checkpoint.resume()
    denoiser, optimizer = accelerator.prepare(parts.denoiser, optimizer)
    ema.to(accelerator.device)
    curves = Curves(run / "diffusion_log.jsonl")
    if accelerator.is_main_process:
        curves.cut(start)
    with finish_the_step() as stop:
        for step in range(start, config.steps):
            rng = step_rng(config.seed, step, accelerator.process_index)
            batch = make_batch(latents, draws, parts, rng, grounded).to(accelerator.device)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * learning_rate(step, config.steps, config.warmup, config.final_lr)
            values = train_step(denoiser, optimizer, accelerator, batch, parts)
            ema.step(parts.denoiser.parameters())
            last, stopping = step + 1 == config.steps, agreed(stop, accelerator)
            if accelerator.is_main_process:
                if last or (step + 1) % config.sheet_every == 0:
                    values |= look(run, parts, ema, validation, step + 1)
                curves.add(step, values)
                if last or (step + 1) % config.log_every == 0:
                    curves.plot(run / "diffusion_loss.png", FIGURES)
                if last or stopping or checkpoint.due():
                    checkpoint.save(step + 1)
            if on_step:
                on_step(step + 1, config.steps, values)
            if stopping:
                raise KeyboardInterrupt
    if accelerator.is_main_process:
        export(run / "model", parts, ema)
    accelerator.wait_for_everyone()
    return run / "model"


def trained_by(recipe: TrainRecipe) -> str:
    """Digest of the settings that a running training cannot change; how long it runs and what it shows may change."""
    return recipe.digest("name", "vae", "diffusion") + recipe.diffusion.digest(*FREE)


def build(run: Path, recipe: TrainRecipe, chosen: list[Row], accelerator: Accelerator) -> Parts:
    """The untrained networks; every process builds the same."""
    if not (run / "vae/config.json").exists():
        raise MissingError(f"{run / 'vae'} holds no autoencoder", f"type `cxrsynth train-vae DATA -o {run}` first")
    vae = AutoencoderKL.from_pretrained(run / "vae").eval().requires_grad_(False)
    vae = vae.to(memory_format=torch.channels_last)
    tokenizer = build_tokenizer(corpus(chosen), recipe.text)
    phrases = list(recipe.grounding.phrases.values())
    text = class_text(phrases)
    columns = token_columns(tokenizer, text, phrases)
    torch.manual_seed(recipe.diffusion.seed)
    side = vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)
    denoiser = Denoiser(
        build_unet(recipe.unet, side, vae.config.latent_channels, recipe.text.width),
        build_encoder(tokenizer, recipe.text),
        ids(tokenizer, [text]),
        column_weights(columns, recipe.text.tokens),
        recipe.grounding.levels,
    ).to(memory_format=torch.channels_last)

    return Parts(recipe, tokenizer, denoiser, vae.to(accelerator.device), plateau(columns))


def encode_all(
    data: Path, run: Path, recipe: TrainRecipe, chosen: list[Row], vae: bundle.Vae, accelerator: Accelerator
) -> tuple[Latents, Latents]:
    """Latents of the training images, and of a few validation images without variants."""
    store, names, seed = Store(data), list(recipe.grounding.phrases), recipe.diffusion.seed
    held_out = read_rows(data, ("val",), lambda row: trainable(row) and row["source"] in {r["source"] for r in chosen})
    few = np.random.default_rng(seed).permutation(len(held_out))[: recipe.diffusion.validation_images]
    plain = recipe.augment.model_copy(update={"variants": {}, "default_variants": 1, "images": {}})
    with accelerator.main_process_first():
        train = prepare(store, chosen, vae, recipe.augment, names, seed, run)
        validation = prepare(store, [held_out[i] for i in sorted(few)], vae, plain, names, seed, run)
    return train, validation


def check_grounding(recipe: TrainRecipe, latents: Latents) -> int:
    """Images with masks per batch.

    Raises:
        RecipeError: grounding was asked for, and no training image has masks of all its classes.
    """
    wanted = recipe.grounding.images_per_batch
    if wanted and not len(latents.masked):
        raise RecipeError(
            f"no training image has reference masks of {', '.join(recipe.grounding.phrases)}",
            "set grounding.images_per_batch: 0 to train without grounding, or ingest images with masks",
        )
    return min(wanted, recipe.diffusion.batch)


def make_batch(latents: Latents, draws: Draws, parts: Parts, rng: np.random.Generator, grounded: int) -> Batch:
    """Images, captions, noise and timesteps of one step; the images with masks come first."""
    config = parts.recipe.diffusion
    places, masked = draws(rng, config.batch, grounded)
    captions = [
        ""
        if rng.random() < config.caption_dropout
        else caption(latents.rows[latents.image[i]], rng, parts.recipe.captions)
        for i in places
    ]
    values = latents.values[places]
    noise = torch.from_numpy(rng.standard_normal(values.shape, np.float32))
    timesteps = noises.draw_timesteps(rng, config.batch, 1000)
    return Batch(values, noise, timesteps, ids(parts.tokenizer, captions), latents.masks[masked])


def weigh(timesteps: Tensor, gamma: float) -> Tensor:
    """(B,) -> (B,) float32 loss weights on the schedule of `bundle.scheduler`."""
    return noises.weigh(bundle.scheduler(), timesteps, gamma)


def denoising_loss(prediction: Tensor, batch: Batch, gamma: float) -> Tensor:
    """Weighted mean square error of the predicted velocity."""
    target = bundle.scheduler().get_velocity(batch.latents, batch.noise, batch.timesteps)
    error = (prediction.float() - target).pow(2).mean(dim=(1, 2, 3))
    return (error * weigh(batch.timesteps, gamma)).mean()


def train_step(
    denoiser: torch.nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, batch: Batch, parts: Parts
) -> dict[str, float]:
    """One update; returns its figures."""
    config, grounding = parts.recipe.diffusion, parts.recipe.grounding
    noisy = bundle.scheduler().add_noise(batch.latents, batch.noise, batch.timesteps)
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    prediction, maps = denoiser(noisy, batch.timesteps, batch.ids, len(batch.masks))
    loss = denoising_loss(prediction, batch, config.snr_gamma)
    values = {"loss": loss.item()}
    if maps:
        ratio, pixel = grounding_loss(maps, batch.masks, parts.height)
        values |= {"ratio": ratio.item(), "pixel": pixel.item()}
        loss = loss + grounding.token_weight * ratio + grounding.pixel_weight * pixel
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    values["norm"] = float(accelerator.clip_grad_norm_(denoiser.parameters(), config.clip))
    optimizer.step()
    return values


@torch.no_grad()
def validate(parts: Parts, latents: Latents, batch: int = 16) -> float:
    """Loss on validation images with fixed noise and timesteps."""
    rng = np.random.default_rng(0)
    losses: list[float] = []
    device = next(parts.denoiser.parameters()).device
    for start in range(0, len(latents.values), batch):
        values = latents.values[start : start + batch]
        noise = torch.from_numpy(rng.standard_normal(values.shape, np.float32))
        timesteps = torch.from_numpy(np.linspace(10, 990, len(values)).astype(np.int64))
        words = ids(parts.tokenizer, [latents.rows[i]["prompt"] for i in latents.image[start : start + batch]])
        one = Batch(values, noise, timesteps, words, latents.masks[:0]).to(device)
        noisy = bundle.scheduler().add_noise(one.latents, one.noise, one.timesteps)
        with torch.autocast(device.type, torch.bfloat16):
            prediction, _ = parts.denoiser(noisy, one.timesteps, one.ids)
        losses.append(denoising_loss(prediction, one, parts.recipe.diffusion.snr_gamma).item() * len(values))
    return sum(losses) / len(latents.values)


def look(run: Path, parts: Parts, ema: EMAModel, validation: Latents, step: int) -> dict[str, float]:
    """Validation loss and a sample sheet with the averaged weights; the trained weights are back afterwards."""
    config, grounding = parts.recipe.diffusion, parts.recipe.grounding
    parameters = list(parts.denoiser.parameters())
    ema.store(parameters)
    ema.copy_to(parameters)
    parts.denoiser.eval()
    value = validate(parts, validation)
    whole = bundle.pipeline(parts.vae, parts.denoiser.unet, parts.denoiser.text_encoder, parts.tokenizer)
    names, phrases = list(grounding.phrases), list(grounding.phrases.values())
    if config.sheet_prompts:
        pictures, labels = preview.draw(
            whole,
            config.sheet_prompts,
            phrases,
            grounding.levels,
            config.sheet_steps,
            config.sheet_guidance,
            config.seed,
        )
        title = f"{parts.recipe.name}, step {step}"
        preview.sheet(run / f"samples-{step:06d}.png", pictures, labels, config.sheet_prompts, names, title)
    parts.denoiser.train()
    ema.restore(parameters)
    return {"validation": value}


def export(folder: Path, parts: Parts, ema: EMAModel) -> None:
    """Write the averaged weights as a pipeline folder in half precision."""
    copied = copy.deepcopy(parts.denoiser).cpu().float()
    ema.to("cpu")
    ema.copy_to(copied.parameters())
    whole = bundle.pipeline(copy.deepcopy(parts.vae).cpu(), copied.unet, copied.text_encoder, parts.tokenizer)
    bundle.save(folder, whole)


def export_checkpoint(data: Path, run: Path, recipe: TrainRecipe) -> Path:
    """Write ``run/model`` from the last checkpoint, without training further."""
    accelerator = accelerate("cpu")
    shares = recipe.diffusion.shares
    chosen = [row for row in read_rows(data, ("train",), trainable) if row["source"] in (shares or {row["source"]})]
    parts = build(run, recipe, chosen, accelerator)
    path = run / "diffusion.ckpt"
    if not path.exists():
        raise MissingError(f"{path} does not exist", "train first; the first checkpoint comes after a few minutes")
    ema = EMAModel(parts.denoiser.parameters())
    ema.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["parts"]["ema"])
    export(run / "model", parts, ema)
    return run / "model"
