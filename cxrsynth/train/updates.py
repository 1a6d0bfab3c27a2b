"""The updates of a training, whatever is learned: resume, schedule, averages, validation, early stop.

Warm-up and cosine, bfloat16, an average of the weights that grows with the run; the average that does best on the
validation images is what is kept. A batch is a function of (seed, update), so a resumed training is the same training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from cxrsynth.errors import CxrError
from cxrsynth.train.averaging import Best, growing_average
from cxrsynth.train.checkpoint import Checkpoint, finish_the_step, step_rng
from cxrsynth.train.curves import Curves, Progress
from cxrsynth.train.feed import obey_parent
from cxrsynth.train.schedule import learning_rate
from cxrsynth.train.update_config import UpdateConfig

FREE = ("updates", "workers", "checkpoint_minutes")  # what may change between a break and the resume

Batch = tuple[Tensor, Tensor, list[str]]


class NotFiniteError(CxrError):
    """The loss or its gradient is no number any more."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned.

    Attributes:
        stem: of the files in the run folder: ``STEM.ckpt``, ``STEM_log.jsonl``.
        figure: name of what validation gives, higher is better.
        network: with fresh or given weights.
        loss: (output float32, target) -> ().
        feed: item i is the batch of update i: input, target, and paths to name in an error.
        validate: the figure of a network.
        identity: of all that a running training cannot change.
    """

    stem: str
    figure: str
    network: nn.Module
    loss: nn.Module
    feed: Dataset[Batch]
    validate: Callable[[nn.Module], float]
    identity: str


@dataclass(frozen=True, slots=True)
class Trained:
    """The end of a training.

    Attributes:
        network: the best average.
        figures: updates, the best of them, whether it stopped early, images per second.
        curves: its log.
    """

    network: nn.Module
    figures: dict[str, Any]
    curves: Curves


def run_updates(
    task: Task, run: Path, config: UpdateConfig, accelerator: Accelerator, on_step: Progress | None = None
) -> Trained:
    """Train; calling it again goes on at the last checkpoint, with the same result as without the break.

    Args:
        on_step: told (finished updates, all updates, figures) after every update.

    Raises:
        MismatchError: the run folder holds another training's checkpoint.
        NotFiniteError: the loss became NaN or infinite.
    """
    network = task.network
    average = AveragedModel(network, multi_avg_fn=growing_average(config.ema), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    best = Best()
    parts = {"network": network, "average": average, "optimizer": optimizer, "best": best}
    checkpoint = Checkpoint(run / f"{task.stem}.ckpt", task.identity, parts, config.checkpoint_minutes)
    start = checkpoint.resume()
    trained, optimizer = accelerator.prepare(network, optimizer)
    average.to(accelerator.device)
    curves = Curves(run / f"{task.stem}_log.jsonl")
    if accelerator.is_main_process:
        curves.cut(start)
    loader = DataLoader(
        task.feed,
        batch_size=None,
        sampler=range(start, config.updates),
        num_workers=config.workers,
        worker_init_fn=obey_parent,
    )
    began, step = time.monotonic(), start
    with finish_the_step() as stop:
        for step, (x, y, paths) in enumerate(loader, start=start + 1):
            if config.patience and best.stale >= config.patience:
                step -= 1
                break
            # Drop-out of some networks: its numbers belong to the update too.
            torch.manual_seed(int(step_rng(config.seed, step, accelerator.process_index).integers(2**63)))
            for group in optimizer.param_groups:
                group["lr"] = config.lr * learning_rate(step - 1, config.updates, config.warmup, config.final_lr)
            values = one_update(trained, optimizer, accelerator, task.loss, (x, y), config.clip, (step, paths))
            average.update_parameters(network)
            if step == config.updates or step % config.validate_every == 0:
                score = torch.tensor(task.validate(average.module), device=accelerator.device)
                # Every process has to stop at the same update.
                values[task.figure] = broadcast(score).item()
                best.offer(values[task.figure], step, average.module)
            if accelerator.is_main_process:
                curves.add(step - 1, values)
                if stop or checkpoint.due():
                    checkpoint.save(step)
            if on_step:
                on_step(step, config.updates, values)
            if stop:
                raise KeyboardInterrupt
    seconds = time.monotonic() - began
    early = step < config.updates
    figures: dict[str, Any] = {"updates": step, "best_update": best.update, "stopped_early": early}
    if step > start:
        figures["images_per_s"] = round((step - start) * config.batch / seconds, 2)
    if accelerator.is_main_process:
        checkpoint.save(step)
        average.module.load_state_dict(best.weights)
    return Trained(average.module, figures, curves)


def one_update(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    loss_of: nn.Module,
    batch: tuple[Tensor, Tensor],
    clip: float,
    where: tuple[int, Sequence[str]],
) -> dict[str, float]:
    """One step of the optimizer; weights never become NaN, because a gradient that is none is refused before.

    Raises:
        NotFiniteError: naming the update and the images of its batch.
    """
    x, y = (part.to(accelerator.device, non_blocking=True) for part in batch)
    loss = loss_of(network(x).float(), y)
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    norm = float(accelerator.clip_grad_norm_(network.parameters(), clip))
    value = float(loss.detach())
    if not np.isfinite([value, norm]).all():
        update, paths = where
        raise NotFiniteError(
            f"the loss is {value} and its gradient {norm} at update {update}, "
            f"in a batch with {', '.join(sorted(set(paths))[:4])}",
            "run it again with a smaller --lr and another -o; if it comes back, look at these images",
        )
    optimizer.step()
    return {"loss": value}
