"""Training of a segmentation network on labelled images, generated, real, or mixed.

Dice and cross-entropy; the average of the weights that labels the validation images best is what is kept. The unit is
the update: arms of a comparison get the same number of them, however many images they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn

from cxrsynth.data.augment import augmenter
from cxrsynth.data.labelled import LabelledImage, Source, choose_classes, gather, may_train
from cxrsynth.data.patients import check_patients
from cxrsynth.errors import UsageError
from cxrsynth.nets.segmenter import Network, load_encoder, squash, start_from
from cxrsynth.records import IGNORE
from cxrsynth.store import Row, dumps, file_sha256, sha256
from cxrsynth.train.carved import Carved
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.feed import Batch, Draw
from cxrsynth.train.loop import Figures, Turn, train
from cxrsynth.train.loop_config import FREE
from cxrsynth.train.tasks.segment.config import SegmentConfig
from cxrsynth.train.tasks.segment.result import FIGURES, Splits, mean_dice, validate, write_result


class SegmentTask:
    """See `cxrsynth.train.loop.Task`.

    Args:
        weights: share of the draws of each dataset.
    """

    stem, score = "segment", "dice"
    shown = FIGURES

    def __init__(
        self,
        network: Network,
        images: Splits,
        weights: Sequence[float],
        config: SegmentConfig,
        device: torch.device,
        identity: str,
    ) -> None:
        self.images, self.config, self.device, self.identity = images, config, device, identity
        self.draw, self.augment = Draw(images.train, weights), augmenter(config.augment)
        self.loss = Loss(len(images.classes), config)
        self.turns = [Turn("loss", network, self.step)]

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """(B, 1, S, S) images and (B, S, S) int64 labels with 255 for unlabelled, augmented."""
        chosen = self.draw(rng, self.config.batch)
        pairs = [self.augment(*read(image, self.config.size), rng) for image in chosen]
        pixels, masks = (np.stack(part) for part in zip(*pairs, strict=True))
        x = torch.from_numpy(pixels[:, None].astype(np.float32) / 255)
        return Batch(x, torch.from_numpy(masks.astype(np.int64)), [str(image.mask_path) for image in chosen])

    def step(self, network: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """Dice and cross-entropy."""
        return self.loss(network(batch.x).float(), batch.target), {}

    def look(self, network: nn.Module, update: int) -> Figures:
        """Mean Dice on validation images."""
        return {
            "dice": mean_dice(validate(network, self.images.shown, len(self.images.classes), self.config, self.device))
        }


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
        The folder with ``model.safetensors``, ``config.json``, ``metrics.json``, ``patients.json``, ``curves.png`` and
        ``worst.png``.

    Raises:
        UsageError: classes that do not match, an empty split, an unknown architecture.
        MismatchError: an unfinished shard, a mask of another size, a patient in two splits, another run's checkpoint.
        NotFiniteError: the loss became NaN or infinite.
    """
    accelerator = accelerate(device, config.precision)
    images = collect(sources, validation, config)
    torch.manual_seed(config.seed)
    network = Network(config.arch, config.encoder, len(images.classes), config.options)
    origin: dict[str, str] = {}
    if encoder_weights is not None:
        load_encoder(network, encoder_weights)
        origin["encoder_sha256"] = file_sha256(encoder_weights)
    if init is not None:
        origin["init_sha256"] = start_from(network, images.classes, init, config.arch, config.encoder, config.options)
    shares = [source.weight for source in sources]
    task = SegmentTask(network, images, shares, config, accelerator.device, digest(sources, images, config, origin))
    done = train(task, run, config, accelerator, on_step)
    if accelerator.is_main_process:
        figures = done.per_image(config.batch)
        write_result(run, network, images, sources, config, origin, figures, done.curves, accelerator.device)
    accelerator.wait_for_everyone()
    return run / "model"


def collect(sources: Sequence[Source], validation: Sequence[Source], config: SegmentConfig) -> Splits:
    """All images, with every check that can be made before training."""
    if not sources:
        raise UsageError("there is nothing to learn from", "name a dataset with --data")
    held_out = [source.root for source in validation or sources]
    classes = choose_classes(list(dict.fromkeys([*(source.root for source in sources), *held_out])), config.classes)
    allowed = may_train(config.benchmark)

    def usable(row: Row) -> bool:
        return bool(row.get("mask")) and set(classes) <= set(row.get("mask_classes", classes)) and allowed(row)

    carved = Carved([] if validation else held_out, usable)
    train = [gather(source, "train", classes, carved.left(source.root, allowed)) for source in sources]
    val = [
        image
        for root in dict.fromkeys(held_out)
        for image in gather(Source(root), carved.split(root), classes, carved.taken(root, allowed))
    ]
    check_patients([image for part in train for image in part], val)
    order = np.random.default_rng(config.seed).permutation(len(val))[: config.validation_images]
    return Splits(classes, train, val, [val[i] for i in sorted(order)])


def digest(sources: Sequence[Source], images: Splits, config: SegmentConfig, origin: dict[str, str]) -> str:
    """sha256 of all that a running training cannot change; where the folders lie does not matter."""
    keys = [[image.row["key"] for image in part] for part in (*images.train, images.val)]
    made = [sorted({receipt.fingerprint for receipt in part[0].store.receipts()}) for part in images.train]
    weights = [source.weight for source in sources]
    return sha256(dumps([config.digest(*FREE), images.classes, keys, made, weights, origin]))


def read(image: LabelledImage, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask at the size of the network: (size, size) uint8 both."""
    mask = image.mask()
    if mask.shape != (size, size):
        mask = np.asarray(Image.fromarray(mask, mode="L").resize((size, size), Image.Resampling.NEAREST))
    return squash(image.image(), size), mask


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
