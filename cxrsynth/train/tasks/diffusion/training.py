"""Training a latent diffusion model on images and their captions, from nothing or from a base.

UNet and text encoder train whole, by LoRA, or not at all, on latents that are encoded once. Phrases are grounded on
reference masks of the anatomy and on masks of simulated findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor, nn

from cxrsynth.alone import alone
from cxrsynth.data.captions import caption, corpus
from cxrsynth.data.dataset import rows, trainable
from cxrsynth.data.latents import Draws, Latents, prepare
from cxrsynth.data.material import PLACE, Material, gather
from cxrsynth.data.square import Square
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.generate import samples as preview
from cxrsynth.nets import bundle, noise
from cxrsynth.nets.base import Base, fresh_base, load_base
from cxrsynth.nets.grounding import grounding_loss
from cxrsynth.nets.text import ids
from cxrsynth.store import Store
from cxrsynth.train.curves import Curves, Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import optimizer_class, train
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.diffusion.config import DiffusionRecipe
from cxrsynth.train.tasks.diffusion.result import write_result
from cxrsynth.train.tasks.diffusion.setup import Setup, build
from cxrsynth.weights import Weights

TENSORS = ("latents", "noise", "timesteps", "ids", "masks", "known")


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees; images with masks come first.

    Attributes:
        latents: (B, C, h, w) float32.
        noise: as latents.
        timesteps: (B,) int64.
        ids: (B, T) int64 caption tokens.
        masks: (n, K, h, w) float32 in 0..1, of the first n images.
        known: (n, K) float32, 1 where somebody looked for the class, else 0.
        share: of the images of the whole batch that this part has.
        seen: of its masks.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    ids: Tensor
    masks: Tensor
    known: Tensor
    share: float = 1.0
    seen: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in TENSORS})

    def parts(self, size: int | None) -> list[Batch]:
        """The batch in parts of at most ``size`` images."""
        total, size = len(self.latents), size or len(self.latents)
        found = []
        for start in range(0, total, size):
            here = slice(start, start + size)
            part = replace(self, **{name: getattr(self, name)[here] for name in TENSORS})
            seen = len(part.masks) / max(1, len(self.masks))
            found.append(replace(part, share=len(part.latents) / total, seen=seen))
        return found


class DiffusionTask:
    """See `cxrsynth.train.task.Task`."""

    stem, score = "diffusion", ""
    shown: Sequence[str] = ("denoiser", "validation", "ratio", "pixel")

    def __init__(
        self, setup: Setup, latents: Latents, draws: Draws, held: Latents | None, run: Path, identity: str
    ) -> None:
        self.setup, self.latents, self.draws, self.held, self.run = setup, latents, draws, held, run
        self.identity = identity
        config = setup.recipe.training
        self.turns = [Turn("denoiser", setup.denoiser, self.losses, split=lambda batch: batch.parts(config.micro))]

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """Images, captions, noise and timesteps; those with masks come first."""
        recipe, latents, base = self.setup.recipe, self.latents, self.setup.base
        config = recipe.training
        grounding = recipe.grounding
        places, masked = self.draws(rng, config.batch, grounding.images_per_batch, grounding.findings_per_batch)
        texts = []
        for place in places:
            row = latents.rows[latents.image[place]]
            dropped = rng.random() < recipe.words.dropout
            varied = caption(row, rng, recipe.captions) if recipe.words.style == "varied" else ""
            texts.append("" if dropped else varied or self.setup.words[row[PLACE]])
        values = latents.values[places]
        drawn = noise.draw_noise(rng, tuple(values.shape), recipe.noise.offset)
        timesteps = noise.draw_timesteps(rng, config.batch, base.schedule.config.num_train_timesteps)
        words = ids(base.tokenizer, texts)
        return Batch(values, drawn, timesteps, words, latents.masks[masked], latents.known[masked])

    def losses(self, denoiser: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """Weighted denoising loss, and the grounding of the images that have masks."""
        schedule, recipe = self.setup.base.schedule, self.setup.recipe
        noisy = schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        prediction, maps = denoiser(noisy, batch.timesteps, batch.ids, len(batch.masks))
        wanted = noise.target(schedule, batch.latents, batch.noise, batch.timesteps)
        error = (prediction.float() - wanted).pow(2).mean(dim=(1, 2, 3))
        loss = batch.share * (error * noise.weigh(schedule, batch.timesteps, recipe.noise.snr_gamma)).mean()
        figures = {"denoising": float(loss.detach())}
        if maps:
            ratio, pixel = grounding_loss(maps, batch.masks, batch.known, self.setup.height.to(batch.masks.device))
            loss = loss + batch.seen * (recipe.grounding.token_weight * ratio + recipe.grounding.pixel_weight * pixel)
            figures |= {"ratio": batch.seen * float(ratio.detach()), "pixel": batch.seen * float(pixel.detach())}
        return loss, figures

    @torch.no_grad()
    def validate(self) -> float:
        """Loss on held-out images with fixed noise and timesteps."""
        held, setup = self.held, self.setup
        if held is None:
            raise UsageError("there are no held-out images", "set training.validation_images to 0")
        rng = np.random.default_rng(0)
        count, size = len(held.values), setup.recipe.training.micro or setup.recipe.training.batch
        last = setup.base.schedule.config.num_train_timesteps - 1
        times = torch.from_numpy(np.linspace(0.01 * last, 0.99 * last, count).astype(np.int64))
        texts = [setup.words[held.rows[i][PLACE]] for i in held.image]
        device = next(setup.denoiser.parameters()).device
        total = 0.0
        for start in range(0, count, size):
            here = slice(start, start + size)
            values = held.values[here]
            drawn = torch.from_numpy(rng.standard_normal(values.shape, np.float32))
            words = ids(setup.base.tokenizer, texts[here])
            one = Batch(values, drawn, times[here], words, held.masks[:0], held.known[:0]).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=setup.recipe.training.precision == "bf16"):
                total += len(values) * self.losses(setup.denoiser, one, 0)[1]["denoising"]
        return total / count

    def look(self, network: nn.Module, update: int) -> Figures:
        """Validation loss, and a sheet of fixed prompts and seeds."""
        recipe, base = self.setup.recipe, self.setup.base
        config, grounding = recipe.training, recipe.grounding
        figures = {"validation": self.validate()} if self.held is not None else {}
        if config.sheet_prompts:
            whole = bundle.pipeline(base.vae, base.unet, base.text_encoder, base.tokenizer, base.schedule)
            phrases, show = list(grounding.phrases.values()), (config.sheet_steps, config.sheet_guidance, config.seed)
            images, labels = preview.draw(whole, config.sheet_prompts, phrases, grounding.levels, *show)
            title = f"{recipe.name}, update {update}"
            file = self.run / f"samples-{update:06d}.png"
            preview.sheet(file, images, labels, config.sheet_prompts, list(grounding.phrases), title)
        return figures


@alone
def train_diffusion(
    data: Sequence[Path],
    run: Path,
    found: Weights | None,
    recipe: DiffusionRecipe,
    device: str = "auto",
    command: str = "",
    on_step: Progress | None = None,
    export_only: bool = False,
) -> dict[str, Any]:
    """Train on the training images of ``data``; the result is the model folder ``run/model``.

    Running the same command again goes on at the last checkpoint, with the same result as without the break. The
    number of updates may be changed in between.

    Args:
        data: datasets; images of the first have captions, further ones may hold simulated findings with their masks.
        found: the model to start from; None builds a fresh one on the autoencoder in ``run/vae``.
        command: how it was called, for the card of the result.
        export_only: write the model from the last checkpoint, without training.

    Returns:
        ``model``, ``adapter`` (None where more than LoRA changed), ``updates``, ``images``, ``validation`` (loss on the
        held-out images of the base and of the result) and ``captions`` (what the encoder's limit took away).

    Raises:
        UsageError: images that cannot be learned from, or a run folder that holds something else.
        RecipeError: settings that do not fit each other or the base.
        MissingError: parts of the base, an optional package or a device are not there.
        MismatchError: the checkpoint in ``run`` is of another base, recipe or data.
    """
    config = recipe.training
    check_run(run, found, export_only)
    optimizer_class(config)
    accelerator = accelerate(device, config.precision)
    base = start(data, run, found, recipe)
    simulated = recipe.grounding.findings_per_batch > 0
    kept_out = (config.validation_images, config.seed)
    material = gather(data, recipe.images, recipe.words, base.tokenizer, simulated, *kept_out)
    setup = build(base, recipe, material.words())
    base.vae.to(accelerator.device)
    latents, held = encode_all(run, setup, material, accelerator)
    made = sorted({receipt.fingerprint for root in data for receipt in Store(root).receipts()})
    what = [recipe.trained_by(), base.digest, made, [image.row[PLACE] for image in material.train]]
    draws = Draws(latents, recipe.images.shares, material.weight, len(recipe.grounding.phrases))
    task = DiffusionTask(setup, latents, draws, held, run, sha256(dumps(what)))
    updates = config.model_copy(update={"warmup": min(config.warmup, config.updates // 10)})
    before = task.validate() if held is not None and not (run / "diffusion.ckpt").exists() else None
    if before is not None and accelerator.is_main_process:
        Curves(run / "before.jsonl").add(0, {"before": before})
    setup.ready()
    done = train(task, run, updates, accelerator, on_step, only_load=export_only)
    validation = validation_of(run, done.curves)
    if accelerator.is_main_process:
        write_result(run, setup, material, done.figures["updates"], validation, command)
    accelerator.wait_for_everyone()
    return {
        "model": str(run / "model"),
        "adapter": str(run / "adapter") if recipe.what.adapter and found is not None else None,
        "updates": done.figures["updates"],
        "images": {"train": len(material.train), "val": len(material.val), "left_out": material.left_out},
        "validation": validation,
        "captions": {"over_limit": material.cut.cut, "tokens_cut": material.cut.tokens, "limit": material.cut.limit},
    }


def start(data: Sequence[Path], run: Path, found: Weights | None, recipe: DiffusionRecipe) -> Base:
    """The model to start from.

    Raises:
        MissingError: there is neither a base nor an autoencoder.
    """
    config, seed = recipe.fresh, recipe.training.seed
    if found is not None:
        return load_base(found, recipe.what, recipe.noise, recipe.images.size, recipe.words.tokens, seed)
    if not (run / "vae/config.json").exists():
        raise MissingError(
            f"{run / 'vae'} holds no autoencoder",
            f"run `cxrsynth train-vae DATA -o {run}` first, or add --base mini, a diffusers folder or a hub id",
        )
    chosen = recipe.images.shares
    found_rows = [row for root in data for row in rows(root, ("train",), trainable)]
    known = [row for row in found_rows if not chosen or row.get("source") in chosen or row.get("simulated")]
    vae = AutoencoderKL.from_pretrained(run / "vae")
    return fresh_base(vae, corpus(known), config.text, config.unet, recipe.noise, seed)


def check_run(run: Path, found: Weights | None, export_only: bool) -> None:
    """Refuse a run folder that holds something else, before anything is written.

    Raises:
        UsageError: the base lies in it, or a model of another training does.
        MissingError: there is no checkpoint to export.
    """
    checkpoint = run / "diffusion.ckpt"
    if found is not None and found.path.resolve().is_relative_to(run.resolve()):
        raise UsageError(f"the base {found.name} lies in the run folder {run}", "choose another folder with -o")
    if export_only and not checkpoint.exists():
        raise MissingError(f"{checkpoint} does not exist", "train first; checkpoints are saved every few minutes")
    if (run / "model").exists() and not checkpoint.exists():
        raise UsageError(f"{run / 'model'} comes from another training", "choose another folder with -o")


def encode_all(run: Path, setup: Setup, material: Material, accelerator: Accelerator) -> tuple[Latents, Latents | None]:
    """Latents of the training images, and of the held-out ones without variants."""
    recipe = setup.recipe
    square = Square(recipe.images.fit, setup.base.size)
    names, seed = recipe.grounding.names, recipe.training.seed
    plain = recipe.augment.model_copy(update={"variants": {}, "default_variants": 1, "images": {}})
    held = None
    with accelerator.main_process_first():
        train_latents = prepare(material.train, setup.base.vae, recipe.augment, names, seed, run, square)
        if material.val:
            held = prepare(material.val, setup.base.vae, plain, names, seed, run, square)
    return train_latents, held


def validation_of(run: Path, curves: Curves) -> dict[str, float]:
    """The loss on held-out images ``before`` the first update and ``after`` the last measured one; empty without."""
    found = {"before": [line["before"] for line in Curves(run / "before.jsonl").read() if "before" in line]}
    found["after"] = [line["validation"] for line in curves.read() if "validation" in line]
    return {name: values[-1] for name, values in found.items() if values}
