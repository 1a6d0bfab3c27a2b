"""Training of a segmentation network on labelled films, generated, real, or mixed.

Dice and cross-entropy, bfloat16, a warm-up and a cosine, an average of the weights that grows with the run; the
average that labels the validation films best is what is kept. The unit is the update: arms of a comparison get the
same number of them, however many films they have.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from cxrsynth.errors import CxrError, UsageError
from cxrsynth.store import dumps, file_sha256, sha256
from cxrsynth.train.averaging import Best, growing_average
from cxrsynth.train.checkpoint import Checkpoint, finish_the_step, step_rng
from cxrsynth.train.curves import Curves, Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.feed import Feed, obey_parent
from cxrsynth.train.labelled import IGNORE, Source, check_patients, choose_classes, gather, may_train
from cxrsynth.train.network import Network, load_encoder, start_from
from cxrsynth.train.schedule import learning_rate
from cxrsynth.train.segment_config import SegmentConfig
from cxrsynth.train.segment_result import Films, mean_dice, validate, write_result

FREE = ("updates", "workers", "checkpoint_minutes")  # what may change between a break and the resume


class NotFiniteError(CxrError):
    """The loss or its gradient is no number any more."""


def train_segmenter(
    sources: Sequence[Source],
    run: Path,
    config: SegmentConfig,
    validation: Sequence[Source] = (),
    init: Path | None = None,
    encoder_weights: Path | None = None,
    device: str = "auto",
    on_step: Progress | None = None,
) -> Path:
    """Train on the ``train`` splits; the result is ``run/model``, written as a whole at the end.

    Calling it again goes on at the last checkpoint, with the same result as without the break.

    Args:
        sources: datasets to learn from.
        run: folder for checkpoint, log and result.
        validation: datasets whose ``val`` split decides which weights are best; those of ``sources`` by default.
        init: run folder of a trained network to go on from (pre-train, then fine-tune); classes match by name.
        encoder_weights: file to start the encoder from; random otherwise. Nothing is ever downloaded.
        on_step: told (finished updates, all updates, figures) after every update.

    Returns:
        The folder with ``model.safetensors``, ``config.json``, ``metrics.json``, ``films.json``, ``curves.png`` and
        ``worst.png``.

    Raises:
        UsageError: classes that do not match, an empty split, an unknown architecture.
        MismatchError: an unfinished shard, a mask of another size, a patient in two splits, another run's checkpoint.
        NotFiniteError: the loss became NaN or infinite.
    """
    accelerator = accelerate(device, config.precision)
    films = collect(sources, validation, config)
    torch.manual_seed(config.seed)
    network = Network(config.arch, config.encoder, len(films.classes), config.options)
    origin: dict[str, str] = {}
    if encoder_weights is not None:
        load_encoder(network, encoder_weights)
        origin["encoder_sha256"] = file_sha256(encoder_weights)
    if init is not None:
        origin["init_sha256"] = start_from(network, films.classes, init, config.arch, config.encoder, config.options)
    average = AveragedModel(network, multi_avg_fn=growing_average(config.ema), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    best = Best()
    parts = {"network": network, "average": average, "optimizer": optimizer, "best": best}
    identity = digest(sources, films, config, origin)
    checkpoint = Checkpoint(run / "segment.ckpt", identity, parts, config.checkpoint_minutes)
    start = checkpoint.resume()
    trained, optimizer = accelerator.prepare(network, optimizer)
    average.to(accelerator.device)
    curves = Curves(run / "segment_log.jsonl")
    if accelerator.is_main_process:
        curves.cut(start)
    feed = Feed(films.train, [source.weight for source in sources], config, accelerator.process_index)
    loader = DataLoader(
        feed,
        batch_size=None,
        sampler=range(start, config.updates),
        num_workers=config.workers,
        worker_init_fn=obey_parent,
    )
    losses = Loss(len(films.classes), config)
    began, step = time.monotonic(), start
    with finish_the_step() as stop:
        for step, (x, y, paths) in enumerate(loader, start=start + 1):
            if config.patience and best.stale >= config.patience:
                step -= 1
                break
            # Drop-out of some decoders: its numbers belong to the update too.
            torch.manual_seed(int(step_rng(config.seed, step, accelerator.process_index).integers(2**63)))
            for group in optimizer.param_groups:
                group["lr"] = config.lr * learning_rate(step - 1, config.updates, config.warmup, config.final_lr)
            values = one_update(trained, optimizer, accelerator, losses, (x, y), config.clip, (step, paths))
            average.update_parameters(network)
            if step == config.updates or step % config.validate_every == 0:
                table = validate(average.module, films.shown, len(films.classes), config, accelerator.device)
                score = torch.tensor(mean_dice(table), device=accelerator.device)
                # Every process has to stop at the same update.
                values["dice"] = broadcast(score).item()
                best.offer(values["dice"], step, average.module)
            if accelerator.is_main_process:
                curves.add(step - 1, values)
                if stop or checkpoint.due():
                    checkpoint.save(step)
            if on_step:
                on_step(step, config.updates, values)
            if stop:
                raise KeyboardInterrupt
    seconds = time.monotonic() - began
    if accelerator.is_main_process:
        checkpoint.save(step)
        early = step < config.updates
        figures: dict[str, float] = {"updates": step, "best_update": best.update, "stopped_early": early}
        if step > start:
            figures["images_per_s"] = round((step - start) * config.batch / seconds, 2)
        average.module.load_state_dict(best.weights)
        write_result(run, average.module, films, sources, config, origin, figures, curves, accelerator.device)
    accelerator.wait_for_everyone()
    return run / "model"


def collect(sources: Sequence[Source], validation: Sequence[Source], config: SegmentConfig) -> Films:
    """All films, with every check that can be made before training."""
    if not sources:
        raise UsageError("there is nothing to learn from", "name a dataset with --data")
    held_out = list(validation) or [Source(source.root) for source in sources]
    roots = [source.root for source in (*sources, *held_out)]
    classes = choose_classes(list(dict.fromkeys(roots)), config.classes)
    allowed = may_train(config.benchmark)
    train = [gather(source, "train", classes, allowed) for source in sources]
    val = [film for source in held_out for film in gather(source, "val", classes, allowed)]
    check_patients([film for part in train for film in part], val)
    order = np.random.default_rng(config.seed).permutation(len(val))[: config.validation_films]
    return Films(classes, train, val, [val[i] for i in sorted(order)])


def digest(sources: Sequence[Source], films: Films, config: SegmentConfig, origin: dict[str, str]) -> str:
    """sha256 of all that a running training cannot change; where the folders lie does not matter."""
    keys = [[film.row["key"] for film in part] for part in (*films.train, films.val)]
    made = [sorted({receipt.fingerprint for receipt in part[0].store.receipts()}) for part in films.train]
    weights = [source.weight for source in sources]
    return sha256(dumps([config.digest(*FREE), films.classes, keys, made, weights, origin]))


class Loss(nn.Module):
    """Soft Dice of the classes over the batch (V-Net, Milletari et al. 2016) plus cross-entropy, both without 255."""

    def __init__(self, classes: int, config: SegmentConfig) -> None:
        super().__init__()
        self.dice = DiceLoss("multiclass", classes=list(range(1, classes + 1)), ignore_index=IGNORE)
        self.weights = (config.dice_weight, config.cross_entropy_weight)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B, K + 1, S, S) float32, (B, S, S) int64 -> ()."""
        labelled = (target != IGNORE).sum().clamp(min=1)
        entropy = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / labelled
        total: Tensor = self.weights[0] * self.dice(logits, target) + self.weights[1] * entropy
        return total


def one_update(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    losses: Loss,
    batch: tuple[Tensor, Tensor],
    clip: float,
    where: tuple[int, Sequence[str]],
) -> dict[str, float]:
    """One step of the optimizer; weights never become NaN, because a gradient that is none is refused before.

    Raises:
        NotFiniteError: naming the update and the masks of its batch.
    """
    x, y = (part.to(accelerator.device, non_blocking=True) for part in batch)
    loss = losses(network(x).float(), y)
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    norm = float(accelerator.clip_grad_norm_(network.parameters(), clip))
    value = float(loss.detach())
    if not np.isfinite([value, norm]).all():
        update, paths = where
        raise NotFiniteError(
            f"the loss is {value} and its gradient {norm} at update {update}, "
            f"in a batch with {', '.join(sorted(set(paths))[:4])}",
            "type it again with a smaller --lr and another -o; if it comes back, look at these films",
        )
    optimizer.step()
    return {"loss": value}
