"""A multi-label classifier in a folder: any network of timm, one gray channel, one output per label.

DIR/model.safetensors   weights, float32
DIR/config.json         encoder, labels in the order of the outputs, thresholds, size, and how it was trained
DIR/metrics.json        AUROC per label on held-out images

``timm.create_model("local-dir:DIR", pretrained=True)`` opens the same folder (see `cxrsynth.nets.segmenter`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.nets import imagenet
from cxrsynth.nets.encoder_weights import fill_encoder, read_encoder
from cxrsynth.nets.network_folder import built, read_config, read_weights
from cxrsynth.nets.segmenter import DEVIATION, MEAN, squash
from cxrsynth.registry import unknown

WHAT, COMMAND = "classifier", "train-cls"


class ClassifierNetwork(nn.Module):
    """A network of timm that takes gray images.

    Args:
        encoder: a name of timm, for example ``resnet18`` or ``mobilenetv3_small_100``.
        labels: K, number of outputs.
        options: further arguments, for example ``{"img_size": 192}`` for a vision transformer.

    Raises:
        UsageError: no such network, or options it does not take.
    """

    def __init__(
        self, encoder: str, labels: int, options: Mapping[str, Any] | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not timm.is_model(encoder):
            raise unknown("encoders", encoder, timm.list_models())
        try:
            # Never pretrained: timm would fetch the weights from the network. A local file is read by `read_encoder`.
            self.body = timm.create_model(
                encoder, pretrained=False, in_chans=1, num_classes=labels, drop_rate=dropout, **dict(options or {})
            )
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise UsageError(f"cannot build {encoder}: {error}", "try --encoder resnet18") from None
        self.encoder, self.options = encoder, dict(options or {})

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, S, S) float32 in 0..1 -> (B, D), what the last layer sees."""
        body: Any = self.body
        seen: Tensor = body.forward_head(body.forward_features((x - MEAN) / DEVIATION), pre_logits=True)
        return seen

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, S, S) float32 in 0..1 -> (B, K) logits."""
        logits: Tensor = self.body((x - MEAN) / DEVIATION)
        return logits

    def outside(self, labels: Sequence[str], size: int) -> dict[str, Any]:
        """What ``timm.create_model("local-dir:...")`` wants to know."""
        body: Any = self.body
        known = body.pretrained_cfg
        kept = {name: known[name] for name in ("first_conv", "classifier", "pool_size") if known.get(name) is not None}
        shown = {
            "mean": [MEAN],
            "std": [DEVIATION],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
        }
        return {
            "architecture": self.encoder,
            "num_classes": len(labels),
            "num_features": body.num_features,
            "label_names": list(labels),
            "model_args": {"in_chans": 1, **self.options},
            "pretrained_cfg": {**kept, **shown, "input_size": [1, size, size], "num_classes": len(labels)},
        }

    def head(self) -> list[str]:
        """Names of the tensors of the last layer, inside ``body``."""
        last: Any = self.body
        own = {id(value) for value in last.get_classifier().parameters()}
        return [name for name, value in self.body.named_parameters() if id(value) in own]


def start_encoder(network: ClassifierNetwork, path: Path) -> None:
    """Start from a file of encoder weights; the last layer stays fresh."""
    read_encoder(network.body, path, network.head())


def start_from_imagenet(network: ClassifierNetwork) -> None:
    """Start from the ImageNet weights that come with the extra ``pretrained``; the last layer stays fresh.

    Raises:
        UsageError: there are none of this encoder.
        MissingError: the extra is not installed.
    """
    name = imagenet.name_of(network.encoder)
    fill_encoder(network.body, imagenet.state(name), f"the ImageNet weights of {name}", network.head())


@dataclass(slots=True)
class Classifier:
    """A trained classifier and what its outputs mean.

    Attributes:
        network: in eval mode, on ``device``.
        labels: names of the outputs.
        size: side of the square it was trained on.
        device: where it works.
        config: all of ``config.json``.
    """

    network: ClassifierNetwork
    labels: tuple[str, ...]
    size: int
    device: torch.device
    config: dict[str, Any]

    def __call__(self, images: Sequence[np.ndarray], batch: int = 16) -> np.ndarray:
        """Images, each (H, W) uint8 of any size, -> (N, K) float32 probabilities."""
        return probabilities(self.network, images, self.size, self.device, self.config["precision"], batch)

    @torch.inference_mode()
    def features(self, images: Sequence[np.ndarray], batch: int = 16) -> np.ndarray:
        """Images, each (H, W) uint8 of any size, -> (N, D) float32, what the last layer sees."""
        found = [
            self.network.features(tensor(images[start : start + batch], self.size).to(self.device)).float().cpu()
            for start in range(0, len(images), batch)
        ]
        return torch.cat(found).flatten(1).numpy()

    def index(self, label: str) -> int:
        """The output of a label.

        Raises:
            UsageError: it has not learned that label.
        """
        if label not in self.labels:
            raise UsageError(f"this classifier knows {', '.join(self.labels)}, not {label}", "train one with --labels")
        return self.labels.index(label)


def tensor(images: Sequence[np.ndarray], size: int) -> Tensor:
    """(H, W) uint8 each -> (B, 1, size, size) float32 in 0..1."""
    return torch.from_numpy(np.stack([squash(image, size) for image in images])[:, None].astype(np.float32) / 255)


@torch.inference_mode()
def probabilities(
    network: nn.Module, images: Sequence[np.ndarray], size: int, device: torch.device, precision: str, batch: int = 16
) -> np.ndarray:
    """Images, each (H, W) uint8, -> (N, K) float32 probabilities.

    Args:
        precision: ``bf16`` or ``no``.
    """
    found = []
    for start in range(0, len(images), batch):
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
            logits = network(tensor(images[start : start + batch], size).to(device))
        found.append(logits.float().sigmoid().cpu())
    return torch.cat(found).numpy()


def load(folder: Path, device: torch.device) -> Classifier:
    """A trained classifier from its folder or run folder.

    Raises:
        MissingError: there is none.
        MismatchError: the folder holds something else, or the weights were changed.
    """
    place, config = read_config(folder, ("encoder", "options", "size", "labels", "thresholds"), WHAT, COMMAND)
    with built(place):
        network = ClassifierNetwork(config["encoder"], len(config["labels"]), config["options"])
        network.body.load_state_dict(read_weights(place / "model.safetensors"))
        return Classifier(network.eval().to(device), tuple(config["labels"]), int(config["size"]), device, config)


def start_from(network: ClassifierNetwork, labels: Sequence[str], encoder: str, folder: Path) -> str:
    """Fine-tune: take over the weights of a trained classifier; outputs are matched by label.

    Returns:
        sha256 of the weights taken over.

    Raises:
        MismatchError: another encoder, or no label in common.
    """
    other = load(folder, torch.device("cpu"))
    if other.config["encoder"] != encoder:
        raise MismatchError(
            f"{folder} is a {other.config['encoder']}, not a {encoder}",
            f"type --encoder {other.config['encoder']}, or leave out --init",
        )
    shared = [label for label in labels if label in other.labels]
    if not shared:
        what = f"{folder} knows {', '.join(other.labels)}, none of {', '.join(labels)}"
        raise MismatchError(what, "leave out --init")
    theirs, ours, head = other.network.body.state_dict(), network.body.state_dict(), network.head()
    for name in head:
        value = ours[name].clone()
        for label in shared:  # a label that is new keeps its fresh output
            value[labels.index(label)] = theirs[name][other.labels.index(label)]
        theirs[name] = value
    network.body.load_state_dict(theirs)
    return str(other.config["sha256"])
