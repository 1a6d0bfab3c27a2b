"""Training of a multi-label classifier on what is said about images, generated, real, or mixed.

Binary cross-entropy per label; where nothing is known, nothing is learned. The average of the weights with the highest
mean AUROC on the validation images is what is kept. The loop is that of segmentation: the unit is the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cxrsynth.alone import alone
from cxrsynth.data.augment import augmenter
from cxrsynth.data.dataset import trainable
from cxrsynth.data.held_out import Keep, everything
from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import MultiLabelImage, choose_labels, gather_multilabel, table_of
from cxrsynth.data.patients import Mixture, check_patients
from cxrsynth.encoding import file_sha256, sha256
from cxrsynth.evaluate.classification import mean_auroc, scores_of
from cxrsynth.nets.classifier import ClassifierNetwork, start_encoder, start_from, start_from_imagenet
from cxrsynth.nets.losses import MaskedLoss
from cxrsynth.nets.segmenter import squash
from cxrsynth.store import Store
from cxrsynth.train import labelled
from cxrsynth.train.curves import Progress
from cxrsynth.train.device import accelerate
from cxrsynth.train.feed import Batch
from cxrsynth.train.labelled import Images, identity, roots_of
from cxrsynth.train.loop import train
from cxrsynth.train.task import Figures, Turn
from cxrsynth.train.tasks.classify.config import ClassifyConfig
from cxrsynth.train.tasks.classify.result import FIGURES, write_result


class ClassifyTask:
    """See `cxrsynth.train.task.Task`.

    Args:
        weights: share of the draws of each dataset.
    """

    stem, score = "classify", "auroc"
    shown = FIGURES

    def __init__(
        self,
        network: ClassifierNetwork,
        images: Images[MultiLabelImage],
        weights: Sequence[float],
        config: ClassifyConfig,
        device: torch.device,
        identity: str,
    ) -> None:
        self.images, self.config, self.device, self.identity = images, config, device, identity
        self.draw, self.augment = Mixture(images.train, weights), augmenter(config.augment)
        self.loss = MaskedLoss(weights_of(images.learned, config.most_weight)).to(device)
        self.truth = table_of(images.shown)
        self.turns = [Turn("loss", network, self.step)]

    def batch(self, update: int, rng: np.random.Generator) -> Batch:
        """(B, 1, S, S) images, augmented, and (B, K) float32 of 1, 0 and NaN."""
        size = self.config.size
        chosen = self.draw(rng, self.config.batch)
        empty = np.zeros((size, size), np.uint8)
        pixels = np.stack([self.augment(squash(image.image(), size), empty, rng)[0] for image in chosen])
        x = torch.from_numpy(pixels[:, None].astype(np.float32) / 255)
        return Batch(x, torch.from_numpy(table_of(chosen)), [str(image.path) for image in chosen])

    def step(self, network: nn.Module, batch: Batch, update: int) -> tuple[Tensor, Figures]:
        """Binary cross-entropy over what is known."""
        return self.loss(network(batch.x).float(), batch.target), {}

    def look(self, network: nn.Module, update: int) -> Figures:
        """Mean AUROC on validation images."""
        config = self.config
        scores = scores_of(network, self.images.shown, config.size, self.device, config.precision)
        return {"auroc": mean_auroc(self.truth, scores)}


@alone
def train_classifier(
    sources: Sequence[Source],
    run: Path,
    config: ClassifyConfig,
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
        init: run folder of a trained classifier to go on from; outputs match by label.
        encoder_weights: file to start the encoder from; random otherwise. Nothing is ever downloaded.
        on_step: told (finished updates, all updates, figures) after every update.

    Returns:
        The folder with ``model.safetensors``, ``config.json``, ``metrics.json``, ``patients.json`` and ``curves.png``.

    Raises:
        UsageError: a label without images of both kinds, an empty split, an unknown encoder, or one without ImageNet
            weights that shall start from them.
        MismatchError: an unfinished shard, a patient in two splits, another run's checkpoint.
        NotFiniteError: the loss became NaN or infinite.
    """
    accelerator = accelerate(device, config.precision)
    images, test = collect(sources, validation, config)
    torch.manual_seed(config.seed)
    network = ClassifierNetwork(config.encoder, len(images.names), config.options, config.dropout)
    origin: dict[str, str] = {}
    if config.imagenet:
        start_from_imagenet(network)
    if encoder_weights is not None:
        start_encoder(network, encoder_weights)
        origin["encoder_sha256"] = file_sha256(encoder_weights)
    if init is not None:
        origin["init_sha256"] = start_from(network, images.names, config.encoder, init)
    shares = [source.weight for source in sources]
    said = [sha256(table_of(part).tobytes()) for part in (*images.train, images.val)]
    told = identity(config, images, sources, origin, said)
    task = ClassifyTask(network, images, shares, config, accelerator.device, told)
    done = train(task, run, config, accelerator, on_step)
    if accelerator.is_main_process:
        figures = done.per_image(config.batch * accelerator.num_processes)
        write_result(run, network, images, test, sources, config, origin, figures, done.curves, accelerator.device)
    accelerator.wait_for_everyone()
    return run / "model"


def collect(
    sources: Sequence[Source], validation: Sequence[Source], config: ClassifyConfig
) -> tuple[Images[MultiLabelImage], list[MultiLabelImage]]:
    """All images of which anything is known, and those of the test splits, which decide nothing."""
    roots = roots_of(sources, validation)
    labels = choose_labels(sources, config.labels, config.negatives, config.least)

    def with_labels(source: Source, split: str, keep: Keep = everything) -> list[MultiLabelImage]:
        return gather_multilabel(source, split, labels, config.negatives, keep=keep)

    conditions = (trainable, trainable, everything)
    shown = config.validation_images
    images = labelled.collect(labels, sources, validation, with_labels, *conditions, shown, config.seed)
    # A dataset without test images can be learned from; then there are no figures of a test.
    tested = [root for root in roots if any(row.get("split") == "test" for row in Store(root).rows())]
    test = [image for root in tested for image in with_labels(Source(root), "test")]
    check_patients(images.learned, test, "test")
    return images, test


def weights_of(images: Sequence[MultiLabelImage], most: float) -> Tensor:
    """(K,) how much an image with the label counts, so that both kinds count alike in all, within 1/most .. most."""
    table = table_of(images)
    ones, zeros = (table == 1).sum(axis=0), (table == 0).sum(axis=0)
    return torch.tensor(np.clip(zeros / np.maximum(ones, 1), 1 / most, most), dtype=torch.float32)
