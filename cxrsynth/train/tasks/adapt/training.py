"""Adapting a Stable-Diffusion model to radiographs and their reports (RoentGen, arXiv 2211.12737 and 2508.16783).

UNet and text encoder train whole, by LoRA, or not at all, on latents that are encoded once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from cxrsynth.data.latents import Draws, Latents, prepare
from cxrsynth.data.square import Square
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.store import Store, dumps, sha256
from cxrsynth.train.adapt_config import AdaptRecipe
from cxrsynth.train.base import load_base
from cxrsynth.train.checkpoint import Checkpoint, finish_the_step, step_rng
from cxrsynth.train.curves import Curves, Progress
from cxrsynth.train.device import accelerate, agreed, check_shared
from cxrsynth.train.schedule import learning_rate
from cxrsynth.train.tasks.adapt.images import Material, gather
from cxrsynth.train.tasks.adapt.result import write_result
from cxrsynth.train.tasks.adapt.setup import Setup, Trained, build, optimizer_of
from cxrsynth.train.tasks.adapt.step import look, make_batch, update, validate
from cxrsynth.weights import Weights

FIGURES = ("loss", "validation", "ratio", "pixel")


def adapt(
    data: Path,
    run: Path,
    found: Weights,
    recipe: AdaptRecipe,
    device: str = "auto",
    command: str = "",
    on_step: Progress | None = None,
    export_only: bool = False,
) -> dict[str, Any]:
    """Train ``found`` on the training images of ``data``; the result is the model folder ``run/model``.

    Typing the same command again goes on at the last checkpoint, with the same result as without the break. The
    number of steps may be changed in between.

    Args:
        command: how it was called, for the card of the result.
        export_only: write the model from the last checkpoint, without training.

    Returns:
        ``model``, ``adapter`` (None where more than LoRA changed), ``steps``, ``images``, ``validation`` (loss on the
        held-out images of the base and of the result) and ``captions`` (what the encoder's limit took away).

    Raises:
        UsageError: images that cannot be learned from, or a run folder that holds something else.
        RecipeError: settings that do not fit each other or the base.
        MissingError: parts of the base, an optional package or a device are not there.
        MismatchError: the checkpoint in ``run`` is of another base, recipe or data.
    """
    config = recipe.adapt
    path = run / "adapt.ckpt"
    check_run(run, path, found, export_only)
    make_optimizer = optimizer_of(config)
    accelerator = accelerate(device, config.precision)
    base = load_base(found, recipe)
    material = gather(data, recipe, base.tokenizer)
    setup = build(base, recipe, material.words())
    parameters = setup.trained()
    optimizer = make_optimizer(parameters, lr=config.lr, weight_decay=config.weight_decay)
    ema = EMAModel(parameters, decay=config.ema, use_ema_warmup=True, power=config.ema_power) if config.ema else None
    made = sorted({receipt.fingerprint for receipt in Store(data).receipts()})
    what = [recipe.trained_by(), found.digest, made, [row["key"] for row in material.train]]
    state = {"trained": Trained(setup.denoiser), "optimizer": optimizer, **({"ema": ema} if ema else {})}
    if accelerator.scaler is not None:
        state["scaler"] = accelerator.scaler
    checkpoint = Checkpoint(path, sha256(dumps(what)), state, config.checkpoint_minutes)
    start = checkpoint.resume()
    check_shared(start, run, accelerator)
    base.vae.to(accelerator.device)
    latents, validation = encode_all(data, run, setup, material, accelerator)
    draws = Draws(latents, recipe.images.shares, material.weight)
    denoiser, optimizer = accelerator.prepare(setup.denoiser, optimizer)
    if ema:
        ema.to(accelerator.device)
    curves = Curves(run / "adapt_log.jsonl")
    if accelerator.is_main_process:
        curves.cut(start)
    setup.ready()
    with finish_the_step() as stop:
        for step in range(start, start if export_only else config.steps):
            rng = step_rng(config.seed, step, accelerator.process_index)
            batch = make_batch(latents, draws, setup, rng).to(accelerator.device)
            torch.manual_seed(int(rng.integers(2**63)))  # drop-out, where there is one
            warmup = min(config.warmup, config.steps // 10)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * learning_rate(step, config.steps, warmup, config.final_lr)
            # What the base itself makes of the held-out images; every later figure is read against this one.
            before = validate(setup, validation) if step == 0 and validation and accelerator.is_main_process else None
            values = update(denoiser, optimizer, accelerator, batch, setup)
            if before is not None:
                values["before"] = before
            if ema:
                ema.step(parameters)
            last, stopping = step + 1 == config.steps, agreed(stop, accelerator)
            if accelerator.is_main_process:
                if last or (step + 1) % config.sheet_every == 0:
                    values |= look(run, setup, ema, validation, step + 1)
                curves.add(step, values)
                if last or (step + 1) % config.log_every == 0:
                    curves.plot(run / "adapt_loss.png", FIGURES)
                if last or stopping or checkpoint.due():
                    checkpoint.save(step + 1)
            if on_step:
                on_step(step + 1, config.steps, values)
            if stopping:
                raise KeyboardInterrupt
    steps = start if export_only else max(start, config.steps)
    if accelerator.is_main_process:
        if ema:
            ema.copy_to(parameters)
        write_result(run, setup, material, steps, validation_of(curves), command)
    accelerator.wait_for_everyone()
    return {
        "model": str(run / "model"),
        "adapter": str(run / "adapter") if recipe.what.adapter else None,
        "steps": steps,
        "images": {"train": len(material.train), "val": len(material.val), "left_out": material.left_out},
        "validation": validation_of(curves),
        "captions": {"over_limit": material.cut.cut, "tokens_cut": material.cut.tokens, "limit": material.cut.limit},
    }


def check_run(run: Path, checkpoint: Path, found: Weights, export_only: bool) -> None:
    """Refuse a run folder that holds something else, before anything is written.

    Raises:
        UsageError: the base lies in it, or a model of another training does.
        MissingError: there is no checkpoint to export.
    """
    if found.path.resolve().is_relative_to(run.resolve()):
        raise UsageError(f"the base {found.name} lies in the run folder {run}", "choose another folder with -o")
    if export_only and not checkpoint.exists():
        raise MissingError(f"{checkpoint} does not exist", "train first; checkpoints are saved every few minutes")
    if (run / "model").exists() and not checkpoint.exists():
        raise UsageError(f"{run / 'model'} comes from another training", "choose another folder with -o")


def encode_all(
    data: Path, run: Path, setup: Setup, material: Material, accelerator: Accelerator
) -> tuple[Latents, Latents | None]:
    """Latents of the training images, and of the held-out ones without variants."""
    recipe, store = setup.recipe, Store(data)
    square = Square(recipe.images.fit, setup.base.size)
    names, seed = list(recipe.grounding.phrases), recipe.adapt.seed
    plain = recipe.augment.model_copy(update={"variants": {}, "default_variants": 1, "images": {}})
    held = None
    with accelerator.main_process_first():
        train = prepare(store, material.train, setup.base.vae, recipe.augment, names, seed, run, square)
        if material.val:
            held = prepare(store, material.val, setup.base.vae, plain, names, seed, run, square)
    return train, held


def validation_of(curves: Curves) -> dict[str, float]:
    """The loss on held-out images ``before`` the first update and ``after`` the last measured one, if any."""
    log = curves.read()
    found = {"before": [line["before"] for line in log if "before" in line]}
    found["after"] = [line["validation"] for line in log if "validation" in line]
    return {name: values[-1] for name, values in found.items() if values}
