"""Training of a segmentation network on labelled images, generated, real, or mixed.

Dice and cross-entropy; the average of the weights that labels the validation images best is what is kept. The unit is
the update: arms of a comparison get the same number of them, however many images they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cxrsynth.alone import alone
from cxrsynth.data.augment import augmenter
from cxrsynth.data.hardness import chances_of
from cxrsynth.data.held_out import Keep
from cxrsynth.data.labelled import LabelledImage, Source, choose_classes, gather, may_train
from cxrsynth.data.patients import Mixture
from cxrsynth.domain.anatomy import sided
from cxrsynth.encoding import file_sha256, sha256
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.segmentation import mean_dice, validate
from cxrsynth.nets.encoder_weights import load_encoder, start_from_imagenet
from cxrsynth.nets.losses import SegmentationLoss
from cxrsynth.nets.segmenter import Network, squash, start_from
from cxrsynth.records import Row
from cxrsynth.train import labelled
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.feed import Batch
from cxrsynth.train.labelled import Images, identity, roots_of
from cxrsynth.train.loop import train
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.segment.config import SegmentConfig
from cxrsynth.train.tasks.segment.result import FIGURES, write_result


class SegmentTask:
    """See `cxrsynth.train.task.Task`.

    Args:
        weights: share of the draws of each dataset.
        chances: of the images of each dataset, as `Mixture` takes them.
    """

    stem, score = "segment", "dice"
    shown = FIGURES

    def __init__(
        self,
        network: Network,
        images: Images[LabelledImage],
        weights: Sequence[float],
        config: SegmentConfig,
        device: torch.device,
        identity: str,
        chances: Sequence[np.ndarray | None] | None = None,
    ) -> None:
        self.images, self.config, self.device, self.identity = images, config, device, identity
        self.draw, self.augment = Mixture(images.train, weights, chances), augmenter(config.augment)
        self.loss = SegmentationLoss(len(images.names), config.dice_weight, config.cross_entropy_weight)
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
        images, config = self.images, self.config
        found = (len(images.names), config.size, self.device, config.precision, config.batch)
        return {"dice": mean_dice(validate(network, images.shown, *found))}


@alone
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
        UsageError: classes that do not match, an empty split, an unknown architecture, or an encoder without ImageNet
            weights that shall start from them.
        MismatchError: an unfinished shard, a mask of another size, a patient in two splits, another run's checkpoint.
        NotFiniteError: the loss became NaN or infinite.
    """
    accelerator = accelerate(device, config.precision)
    images = collect(sources, validation, config)
    torch.manual_seed(config.seed)
    network = Network(config.arch, config.encoder, len(images.names), config.options)
    origin: dict[str, str] = {}
    if config.imagenet:
        start_from_imagenet(network, config.encoder)
    if encoder_weights is not None:
        load_encoder(network, encoder_weights)
        origin["encoder_sha256"] = file_sha256(encoder_weights)
    if init is not None:
        origin["init_sha256"] = start_from(network, images.names, init, config.arch, config.encoder, config.options)
    shares = [source.weight for source in sources]
    chances = [chances_of(part, config.hardness) for part in images.train] if config.hardness else None
    if chances and all(one is None for one in chances):
        raise UsageError("no image says how hard it is, and hardness is set", "cxrsynth prune DATASET -o OUT writes it")
    said = [None if one is None else sha256(one.tobytes()) for one in chances or ()]
    told = identity(config, images, sources, origin, *([said] if said else []))
    task = SegmentTask(network, images, shares, config, accelerator.device, told, chances)
    done = train(task, run, config, accelerator, on_step)
    if accelerator.is_main_process:
        figures = done.per_image(config.batch * accelerator.num_processes)
        write_result(run, network, images, sources, config, origin, figures, done.curves, accelerator.device)
    accelerator.wait_for_everyone()
    return run / "model"


def collect(sources: Sequence[Source], validation: Sequence[Source], config: SegmentConfig) -> Images[LabelledImage]:
    """All images with masks of all classes."""
    held_out = roots_of(sources, validation)
    classes = choose_classes(list(dict.fromkeys([*(source.root for source in sources), *held_out])), config.classes)
    with_side = [name for name in classes if sided(name)]
    if config.augment.flip and with_side:
        raise UsageError(
            f"images of {', '.join(with_side)} cannot be flipped: a mirrored image has them on the wrong side",
            "leave augment.flip at 0, or train on classes without a side",
        )
    allowed = may_train(config.benchmark)

    def usable(row: Row) -> bool:
        return bool(row.get("mask")) and set(classes) <= set(row.get("mask_classes", classes)) and allowed(row)

    def with_masks(source: Source, split: str, keep: Keep) -> list[LabelledImage]:
        return gather(source, split, classes, keep)

    return labelled.collect(
        classes, sources, validation, with_masks, usable, allowed, allowed, config.validation_images, config.seed
    )


def read(image: LabelledImage, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask at the size of the network: (size, size) uint8 both."""
    mask = image.mask()
    if mask.shape != (size, size):
        mask = np.asarray(Image.fromarray(mask, mode="L").resize((size, size), Image.Resampling.NEAREST))
    return squash(image.image(), size), mask
