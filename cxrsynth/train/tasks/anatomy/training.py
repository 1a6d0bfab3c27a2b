"""Training of the network that turns a label map into a pseudo-radiograph (XReal, arXiv 2403.09240, section 3).

It learns from images with reference masks and, when a segmenter is given, from images that the segmenter labels;
the file says how many of each. Half of the items map an image to itself, as in XReal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrsynth.alone import alone
from cxrsynth.data.dataset import rows as read_rows
from cxrsynth.data.dataset import trainable
from cxrsynth.data.label_maps import LabelMaps, has_masks, labelled, read, unlabelled
from cxrsynth.encoding import dumps, sha256
from cxrsynth.errors import UsageError
from cxrsynth.nets import auxiliary
from cxrsynth.nets.anatomy import AnatomyNet
from cxrsynth.nets.losses import gradient_difference
from cxrsynth.nets.segmenter import load
from cxrsynth.pages.sheet import Item, contact_sheet
from cxrsynth.pages.sheet import save as save_picture
from cxrsynth.store import Store
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.anatomy.config import AnatomyConfig

SHOWN = 8


class AnatomyTask:
    """See `cxrsynth.train.task.Task`.

    Args:
        human: images with reference masks.
        made: images that a segmenter labelled; None without.
        held: images to validate on.
    """

    score, shown = "", ("l1", "held_out_l1")

    def __init__(
        self,
        net: AnatomyNet,
        human: LabelMaps,
        made: LabelMaps | None,
        held: LabelMaps,
        config: AnatomyConfig,
        stem: str,
        identity: str,
    ) -> None:
        self.human, self.made, self.held, self.config = human, made, held, config
        self.stem, self.identity = stem, identity
        self.turns = [Turn("loss", net, self.step)]

    def batch(self, update: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See `make_batch`."""
        x, image = make_batch(self.human, self.made, self.config, rng)
        return x.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)

    def step(self, net: nn.Module, batch: tuple[Tensor, Tensor], update: int) -> tuple[Tensor, Figures]:
        """L1 and multi-scale gradient difference."""
        x, image = batch
        y = net(x).float()
        pixel = F.l1_loss(y, image)
        return pixel + self.config.gradient_weight * gradient_difference(y, image), {"l1": pixel.item()}

    def look(self, network: nn.Module, update: int) -> Figures:
        """Mean absolute error on held-out images."""
        assert isinstance(network, AnatomyNet)
        return {"held_out_l1": error_of(draw(network, self.held), self.held)}


@alone
def train_anatomy(
    data: Path,
    out: Path,
    config: AnatomyConfig,
    segmenter: Path | None = None,
    device: str = "auto",
    on_step: Progress | None = None,
) -> dict[str, Any]:
    """Train on the ``train`` split of ``data`` and write the network to ``out`` in float16.

    Running the same command again goes on at the last checkpoint, with the same result as without the break.

    Args:
        data: dataset with reference masks of all classes.
        out: ``.safetensors`` file; checkpoint, log and sample sheet lie beside it.
        segmenter: run folder of ``train-seg`` that labels images without masks.

    Returns:
        What came of it: file, sha256, size, images by kind, mean absolute error on held-out images.

    Raises:
        UsageError: no image with masks of all classes, or ``out`` does not end in ``.safetensors``.
        MismatchError: the checkpoint beside ``out`` is of other data or another config.
    """
    auxiliary.target(out, "anatomy")
    accelerator = accelerate(device, config.precision)
    store = Store(data)
    classes = config.classes
    people = [row for row in read_rows(data, ("train",), trainable) if has_masks(row, classes)]
    held = [row for row in read_rows(data, keep=trainable) if row["split"] == "val" and has_masks(row, classes)]
    if not people:
        raise UsageError(
            f"{data} has no training image with masks of {', '.join(config.classes)}",
            "ingest images with reference masks",
        )
    others = unlabelled(data, classes, config.labelled_images) if segmenter is not None else []
    who = [[row["key"] for row in group] for group in (people, others, held)]
    segmented = None if segmenter is None else load(segmenter, accelerator.device)
    labeller = "" if segmented is None else segmented.config["sha256"]
    prints = sorted({receipt.fingerprint for receipt in store.receipts()})
    digest = sha256(dumps([config.digest(*FREE), who, prints, labeller]))
    human = read(store, people, classes)
    made = labelled(store, others, segmented, classes, out.with_suffix(".labels.npz"), digest)
    torch.manual_seed(config.seed)
    net = AnatomyNet(config.classes, config.widths, config.middle, config.size).to(memory_format=torch.channels_last)
    shown = read(store, held, classes) if held else human
    task = AnatomyTask(net, human, made, shown, config, out.stem, digest)
    train(task, out.parent, config, accelerator, on_step)
    result: dict[str, Any] = {}
    if accelerator.is_main_process:
        result = finish(out, net.cpu().float().eval(), shown, config, len(people), len(others), labeller, prints)
    accelerator.wait_for_everyone()
    return result


def make_batch(
    human: LabelMaps, made: LabelMaps | None, config: AnatomyConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """What goes in and what shall come out: (B, K + 1, S, S) and (B, 1, S, S) float32."""
    inputs, images = [], []
    for place in range(config.batch):
        source = human if made is None or rng.random() < config.human else made
        which = int(rng.integers(len(source.images)))
        height, width = source.images.shape[1:]
        tall, wide = (round(side * (1 - rng.uniform(0, config.zoom))) for side in (height, width))
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        cut = np.s_[which, top : top + tall, left : left + wide]
        tone = float(np.exp(rng.uniform(-config.gamma, config.gamma)))
        image = to_size(torch.from_numpy(source.images[cut].astype(np.float32) / 255)[None], config.size)
        planes = torch.zeros(len(config.classes), config.size, config.size)
        if place < round(config.images * config.batch):
            image = image.clamp(0, 1) ** tone * 2 - 1
            inputs.append(torch.cat([planes, image]))
        else:
            hot = source.masks[cut][None] == np.arange(1, len(config.classes) + 1, dtype=np.uint8)[:, None, None]
            image = image * 2 - 1
            inputs.append(torch.cat([to_size(torch.from_numpy(hot.astype(np.float32)), config.size), planes[:1]]))
        images.append(image)
    return torch.stack(inputs), torch.stack(images)


def to_size(planes: Tensor, size: int) -> Tensor:
    """(C, h, w) -> (C, size, size) by area."""
    return F.interpolate(planes[None], size=(size, size), mode="area")[0]


def draw(net: AnatomyNet, images: LabelMaps) -> np.ndarray:
    """(N, S, S) float32 in -1..1: what the network makes of the masks."""
    hot = images.masks[:, None] == np.arange(1, len(net.config["classes"]) + 1, dtype=np.uint8)[:, None, None]
    return torch.cat([net.draw(hot[i : i + 8]) for i in range(0, len(hot), 8)])[:, 0].float().cpu().numpy()


def error_of(synthetic_images: np.ndarray, images: LabelMaps) -> float:
    """Mean absolute difference on the scale -1..1."""
    return float(np.abs(synthetic_images - (images.images.astype(np.float32) / 127.5 - 1)).mean())


def finish(
    out: Path,
    net: AnatomyNet,
    held: LabelMaps,
    config: AnatomyConfig,
    people: int,
    others: int,
    labeller: str,
    prints: list[str],
) -> dict[str, Any]:
    """Write the network, its sheet, and how near it comes to held-out images."""
    synthetic_images = draw(net, held)
    error = error_of(synthetic_images, held)
    result: dict[str, Any] = {
        "images_with_reference_masks": people,
        "images_labelled_by_a_segmenter": others,
        "segmenter_sha256": labeller,
        "held_out_images": len(held.images),
        "held_out_l1": round(error, 4),
    }
    training = {"training": {**result, "data": prints, "recipe": config.model_dump(mode="json")}}
    tensors = {name: value.half() for name, value in net.state_dict().items()}
    written = auxiliary.write(out, "network", net.config, tensors, training)
    grey = ((synthetic_images + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    items = []
    for image, mask, made in list(zip(held.images, held.masks, grey, strict=True))[:SHOWN]:
        items += [Item(image, mask, text="image and mask"), Item(made, mask, text="made of the mask")]
    legend = {name: k for k, name in enumerate(config.classes, start=1)}
    save_picture(contact_sheet(items, columns=4, legend=legend, title="label map -> image"), out.with_suffix(".png"))
    return {**written, **result}
