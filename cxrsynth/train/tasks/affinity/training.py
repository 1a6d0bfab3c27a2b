"""AffinityNet: learned from what attention is sure of in a pilot dataset, one network for all classes.

psa (Ahn and Kwak, CVPR 2018, section 3.2) with the seeds of DiffuMask (ICCV 2023, section 3.2). DiffuMask trains one
network per class; here classes tell each other apart in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrsynth.alone import alone
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.dataset import trainable
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import CxrError
from cxrsynth.masks.pilot import Pilot, competing_classes, read, split
from cxrsynth.masks.walk import offsets
from cxrsynth.nets import auxiliary
from cxrsynth.nets.affinity import AffinityNet
from cxrsynth.nets.losses import affinity_loss
from cxrsynth.pool import spawn_pool
from cxrsynth.records import IGNORE
from cxrsynth.store import Store
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.affinity.config import AffinityConfig


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees: (B, 1, crop, crop) float32 in -1..1, and (B, h, w) uint8 seeds."""

    images: Tensor
    seeds: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(self.images.to(device), self.seeds.to(device))


class AffinityTask:
    """See `cxrsynth.train.task.Task`; the network with the lowest held-out loss is kept."""

    score = "closeness"
    shown = ("loss", "held_out")

    def __init__(
        self, net: AffinityNet, images: Pilot, held: Pilot, config: AffinityConfig, stem: str, identity: str
    ) -> None:
        self.images, self.held, self.config, self.stem, self.identity = images, held, config, stem, identity
        self.turns = [Turn("loss", net, self.step)]

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """Random crops of random images with a random tone."""
        images, config = self.images, self.config
        side = min(config.crop, config.size)
        which = rng.integers(len(images.images), size=config.batch)
        corners = rng.integers(config.size - side + 1, size=(config.batch, 2))
        tone = np.exp(rng.uniform(-config.gamma, config.gamma, size=(config.batch, 1, 1))).astype(np.float32)
        cut = [np.s_[i, y : y + side, x : x + side] for i, (y, x) in zip(which, corners, strict=True)]
        toned = (np.stack([images.images[one] for one in cut]).astype(np.float32) / 255) ** tone
        seeds = np.stack([images.seeds[one] for one in cut])
        return Batch(torch.from_numpy(toned[:, None] * 2 - 1), torch.from_numpy(thin(seeds, config.stride)))

    def step(self, net: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """The loss of `affinity_loss`."""
        return affinity_loss(net(batch.images), batch.seeds, offsets(self.config.radius))["loss"], {}

    def look(self, network: nn.Module, update: int) -> Figures:
        """Loss on the held-out images, and its negative, of which the highest is the best."""
        loss = check(network, self.held, self.config)["loss"]
        return {"held_out": loss, "closeness": -loss}


@alone
def train_affinity(
    pilot: Path, out: Path, config: AffinityConfig, device: str = "auto", on_step: Progress | None = None
) -> dict[str, Any]:
    """Train on the maps of a pilot dataset and write the best network to ``out``.

    Running the same command again goes on at the last checkpoint, with the same result as without the break.

    Args:
        pilot: dataset with stored maps, as ``generate`` or ``annotate`` writes it; reference masks are never read.
        out: ``.safetensors`` file.

    Returns:
        What came of it: file, sha256, images, held-out loss, affinity within and across classes, seeds.

    Raises:
        UsageError: no maps, too few images, or ``out`` does not end in ``.safetensors``.
        MismatchError: the checkpoint beside ``out`` is of another pilot or config.
    """
    auxiliary.target(out, "affinity")
    accelerator = accelerate(device, config.precision)
    store = Store(pilot)
    train_rows, held_rows = split(read_rows(pilot, ("train", "val"), trainable), config.held_out, config.seed)
    classes = competing_classes(store)
    with spawn_pool(2) as pool:
        images, held = (
            read(store, rows, classes, config.size, config.certainty, config.band, pool)
            for rows in (train_rows, held_rows)
        )
    torch.manual_seed(config.seed)
    net = AffinityNet(config.encoder, config.width, config.stride)
    who = [[row["key"] for row in group] for group in (train_rows, held_rows)]
    prints = sorted({receipt.fingerprint for receipt in store.receipts()})
    identity = sha256(dumps([config.digest(*FREE, "patience"), who, prints, classes]))
    task = AffinityTask(net, images, held, config, out.stem, identity)
    done = train(task, out.parent, config, accelerator, on_step)
    result: dict[str, Any] = {}
    if accelerator.is_main_process:
        result = finish(out, net, done.figures["best_update"], held, config, classes, len(train_rows), prints)
    accelerator.wait_for_everyone()
    return result


def finish(
    out: Path,
    net: AffinityNet,
    best: int,
    held: Pilot,
    config: AffinityConfig,
    classes: list[str],
    n: int,
    made: list[str],
) -> dict[str, Any]:
    """Write the best network, and say how good it is.

    Raises:
        CxrError: its held-out loss is no number.
    """
    figures = check(net, held, config)
    if not np.isfinite(figures["loss"]):
        raise CxrError("the held-out loss was never a number", "try a smaller learning rate: --set lr=0.0003")
    shares = [float((held.seeds == value).mean()) for value in (*range(len(classes) + 1), IGNORE)]
    result: dict[str, Any] = {
        "images": n,
        "held_out_images": len(held.images),
        "held_out_loss": round(figures["loss"], 4),
        "affinity_within": round(figures["same"], 4),
        "affinity_across": round(figures["different"], 4),
        "best_step": best,
        "seeds": dict(zip(["background", *classes, "disputed"], (round(share, 4) for share in shares), strict=True)),
    }
    training = {**result, "pilot": made, "recipe": config.model_dump(mode="json")}
    return {**auxiliary.write(out, "weights", net.config, net.state_dict(), {"training": training}), **result}


def thin(seeds: np.ndarray, stride: int) -> np.ndarray:
    """(B, H, W) -> (B, H / stride, W / stride): the label in the middle of each place."""
    return np.ascontiguousarray(seeds[:, stride // 2 :: stride, stride // 2 :: stride])


@torch.no_grad()
def check(net: nn.Module, images: Pilot, config: AffinityConfig) -> dict[str, float]:
    """The figures of `affinity_loss` on whole images, mean over batches."""
    net.eval()
    device = next(net.parameters()).device
    found: list[dict[str, float]] = []
    for start in range(0, len(images.images), config.batch):
        part = images.images[start : start + config.batch, None].astype(np.float32) / 127.5 - 1
        seeds = torch.from_numpy(thin(images.seeds[start : start + config.batch], config.stride)).to(device)
        figures = affinity_loss(net(torch.from_numpy(part).to(device)), seeds, offsets(config.radius))
        found.append({name: value.item() for name, value in figures.items()})
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}
