"""The one training loop: resume, schedule, averages, agreed stop, log. What is learned is a task (see `tasks`).

An update draws all its randomness from (seed, update, process), so a training that was killed and started again ends
with the same weights as one left alone. Works on CPU, CUDA, and under ``accelerate launch`` on several GPUs.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cxrsynth.errors import CxrError, MissingError
from cxrsynth.train.averaging import Average, Best, Changing
from cxrsynth.train.checkpoint import Checkpoint, finish_the_step, step_rng
from cxrsynth.train.curves import Curves, Progress
from cxrsynth.train.device import agreed, check_shared, to_device
from cxrsynth.train.feed import leave_signals
from cxrsynth.train.loop_config import LoopConfig
from cxrsynth.train.schedule import learning_rate
from cxrsynth.train.task import Figures, Task, Turn


class NotFiniteError(CxrError):
    """The loss or its gradient is no number any more."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The end of a training.

    Attributes:
        network: the average, or the best of them.
        figures: updates, the best of them, whether it stopped early, seconds of training over all breaks (batches and
            updates; validation, logs and checkpoints are none), and seconds per update since the last break.
        curves: its log.
    """

    network: nn.Module
    figures: dict[str, Any]
    curves: Curves

    def per_image(self, batch: int) -> dict[str, Any]:
        """The figures with ``images_seen``, and with ``images_per_s`` in place of the seconds per update, where updates
        were made.

        Args:
            batch: images per update, of all processes.
        """
        found = {**self.figures, "images_seen": self.figures["updates"] * batch}
        seconds = found.pop("seconds_per_update", 0.0)
        return {**found, "images_per_s": round(batch / seconds, 2)} if seconds else found


class _Batches(Dataset[Any]):
    """Item ``i`` is the batch of update ``i``, whichever process reads it."""

    def __init__(self, task: Task, seed: int, process: int) -> None:
        self.task, self.seed, self.process = task, seed, process

    def __getitem__(self, update: int) -> Any:
        return self.task.batch(update, step_rng(self.seed, update, self.process))


def train(
    task: Task,
    run: Path,
    config: LoopConfig,
    accelerator: Accelerator,
    on_step: Progress | None = None,
    only_load: bool = False,
) -> Trained:
    """Train; calling it again goes on at the last checkpoint, with the same result as without the break.

    Args:
        on_step: told (finished updates, all updates, figures) after every update.
        only_load: give the result of the last checkpoint, without training further.

    Raises:
        MismatchError: the run folder holds another training's checkpoint.
        NotFiniteError: the loss became NaN or infinite.
    """
    main = task.turns[0].network
    average = Average(main, config.ema)
    optimizers = [optimizer(turn, config) for turn in task.turns]
    best = Best()
    parts: dict[str, Any] = {"average": average, "best": best}
    for turn, optim in zip(task.turns, optimizers, strict=True):
        parts |= {f"{turn.name}.network": Changing(turn.network), f"{turn.name}.optimizer": optim}
    if accelerator.scaler is not None:
        parts["scaler"] = accelerator.scaler
    checkpoint = Checkpoint(run / f"{task.stem}.ckpt", task.identity, parts, config.checkpoint_minutes)
    start = checkpoint.resume()
    check_shared(start, run, accelerator)
    prepared = [accelerator.prepare(turn.network, optim) for turn, optim in zip(task.turns, optimizers, strict=True)]
    trainable = [[p for p in turn.network.parameters() if p.requires_grad] for turn in task.turns]
    average.to(accelerator.device)
    curves = Curves(run / f"{task.stem}_log.jsonl")
    if accelerator.is_main_process:
        curves.cut(start)
    feed = _Batches(task, config.seed, accelerator.process_index)
    loader = DataLoader(
        feed,
        batch_size=None,
        sampler=range(start, start if only_load else config.updates),
        num_workers=config.workers,
        worker_init_fn=leave_signals,
        pin_memory=accelerator.device.type == "cuda",
    )
    began, done = time.monotonic(), start
    with finish_the_step() as stop:
        tick = time.monotonic()
        for update, batch in enumerate(loader, start=start):
            if config.patience and best.stale >= config.patience:
                break
            # Drop-out of some networks: its numbers belong to the update too.
            torch.manual_seed(int(step_rng(config.seed, update + 1, accelerator.process_index).integers(2**63)))
            batch = to_device(batch, accelerator.device)
            for prefix in task.turns[0].rests.get(update, ()):
                average.settle(prefix)
            share = learning_rate(update, config.updates, config.warmup, config.final_lr)
            figures: Figures = {}
            for number, (turn, (network, optim)) in enumerate(zip(task.turns, prepared, strict=True)):
                if update < turn.since:
                    continue
                for group in optim.param_groups:
                    group["lr"] = config.lr * turn.lr * share
                for other, parameters in enumerate(trainable):
                    for parameter in parameters:
                        parameter.requires_grad_(other == number)
                figures |= one_update(turn, network, optim, accelerator, batch, update, config.clip)
            average.update()
            done = update + 1
            checkpoint.trained += time.monotonic() - tick
            if done == config.updates or done % config.look_every == 0:
                figures |= validate(task, main, average, done, best, accelerator)
            stopping = agreed(stop, accelerator)
            last = done == config.updates or (config.patience > 0 and best.stale >= config.patience)
            if accelerator.is_main_process:
                curves.add(update, figures)
                if last or stopping or checkpoint.due():
                    checkpoint.save(done)
                    curves.plot(run / f"{task.stem}_curves.png", task.shown)
            if on_step:
                on_step(done, config.updates, figures)
            if stopping:
                raise KeyboardInterrupt
            tick = time.monotonic()
    average.apply()
    if accelerator.is_main_process and best.weights:
        main.load_state_dict(best.weights)
    accelerator.wait_for_everyone()
    early = done < config.updates
    result: dict[str, Any] = {"updates": done, "best_update": best.update or done, "stopped_early": early}
    result["train_seconds"] = round(checkpoint.trained, 2)
    if done > start:
        result["seconds_per_update"] = round((time.monotonic() - began) / (done - start), 4)
    return Trained(main.eval(), result, curves)


def optimizer_class(config: LoopConfig) -> Any:
    """The class of the optimizer; called early, so that a missing package is said before anything is written.

    Raises:
        MissingError: 8-bit Adam was asked for, and bitsandbytes is not installed.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise MissingError(
            "optimizer adamw8bit needs the package bitsandbytes",
            "pip install 'cxrsynth[adam8bit]', or leave the optimizer at adamw",
        ) from error
    return AdamW8bit


def optimizer(turn: Turn, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW over what may change."""
    made: torch.optim.Optimizer = optimizer_class(config)(
        [p for p in turn.network.parameters() if p.requires_grad],
        lr=config.lr * turn.lr,
        betas=(0.9, config.beta2),
        weight_decay=config.weight_decay,
    )
    return made


def one_update(
    turn: Turn,
    network: nn.Module,
    optim: torch.optim.Optimizer,
    accelerator: Accelerator,
    batch: Any,
    update: int,
    clip: float,
) -> Figures:
    """One step of one optimizer; weights never become NaN, because a gradient that is none is refused before.

    Raises:
        NotFiniteError: naming the update and the images of its batch, where the batch knows them (``names``).
    """
    parts = turn.split(batch)
    figures: Figures = {}
    optim.zero_grad(set_to_none=True)
    for number, part in enumerate(parts, start=1):
        # Gradients of several GPUs are exchanged once, with the last part.
        alone = number < len(parts) and accelerator.num_processes > 1
        with accelerator.no_sync(network) if alone else nullcontext():
            with accelerator.autocast():
                loss, found = turn.loss(network, part, update)
            accelerator.backward(loss)
        for name, value in {turn.name: float(loss.detach()), **found}.items():
            figures[name] = figures.get(name, 0.0) + value
    norm = float(accelerator.clip_grad_norm_(network.parameters(), clip))
    if not np.isfinite([figures[turn.name], norm]).all() and accelerator.scaler is None:
        names = sorted(set(getattr(batch, "names", ())))[:4]
        where = f", in a batch with {', '.join(names)}" if names else ""
        raise NotFiniteError(
            f"the loss is {figures[turn.name]} and its gradient {norm} at update {update + 1}{where}",
            "run it again with a smaller learning rate and another -o; if it comes back, look at these images",
        )
    optim.step()
    return {**figures, f"{turn.name}_norm": norm}


def validate(task: Task, main: nn.Module, average: Average, done: int, best: Best, accelerator: Accelerator) -> Figures:
    """Figures of the averaged weights; every process gets the score, since all have to stop at the same update."""
    figures: Figures = {}
    if accelerator.is_main_process or task.score:
        with average.applied():
            if accelerator.is_main_process:
                modes = {module: module.training for module in main.modules()}
                main.eval()
                figures = task.look(main, done)
                for module, was in modes.items():
                    module.training = was
            if task.score:
                score = broadcast(torch.tensor(figures.get(task.score, 0.0), device=accelerator.device)).item()
                figures[task.score] = score
                best.offer(score, done, main)
    return figures
