"""A segmentation network: any architecture and encoder of segmentation-models-pytorch, one gray channel.

``smp.from_pretrained(DIR)`` opens the folder of one (see `cxrsynth.nets.network_folder`): what smp needs stands on top
of ``config.json``. Its network wants its input as ``(x - MEAN) / DEVIATION``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.nets.network_folder import built, read_config, read_weights
from cxrsynth.registry import unknown

MEAN, DEVIATION = 0.449, 0.226  # of gray natural pictures, so that encoder weights learned on them find their range
SHAPE = ("arch", "encoder", "options", "size")


class Network(nn.Module):
    """A network of smp that takes gray images.

    Args:
        arch: ``unet``, ``fpn``, ``segformer``, ... as smp names them.
        encoder: an encoder of smp, or ``tu-NAME`` for one of timm.
        classes: K, background not counted.
        options: further arguments of the architecture, for example ``{"decoder_channels": [64, 32, 16, 16, 8]}``.

    Raises:
        UsageError: no such architecture or encoder, or options it does not take.
    """

    def __init__(self, arch: str, encoder: str, classes: int, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        known = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
        if arch.lower() not in known:
            raise unknown("architectures", arch, known)
        if not encoder.startswith("tu-") and encoder not in smp.encoders.get_encoder_names():
            raise unknown("encoders", encoder, [*smp.encoders.get_encoder_names(), "tu-NAME for any encoder of timm"])
        try:
            # No weights by name: smp would fetch them from the network. A local file is read by `load_encoder`.
            self.body = smp.create_model(
                arch, encoder, encoder_weights=None, in_channels=1, classes=classes + 1, **dict(options or {})
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"cannot build {arch} with {encoder}: {error}", "try --arch unet --encoder resnet34"
            ) from None

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, S, S) float32 in 0..1 -> (B, K + 1, S, S) logits, background first."""
        logits: Tensor = self.body((x - MEAN) / DEVIATION)
        return logits

    def outside(self) -> dict[str, Any]:
        """What ``smp.from_pretrained`` wants to know."""
        known: dict[str, Any] = {name: value for name, value in self.body.config.items() if value is not None}
        return {**known, "_model_class": type(self.body).__name__, "encoder_weights": None}


@dataclass(slots=True)
class Segmenter:
    """A trained network and what its channels mean.

    Attributes:
        network: in eval mode, on ``device``.
        classes: names; channel and label 1 is the first, 0 is background.
        size: side of the square it was trained on.
        device: where it works.
        config: all of ``config.json``.
    """

    network: Network
    classes: tuple[str, ...]
    size: int
    device: torch.device
    config: dict[str, Any]

    def __call__(self, images: Sequence[np.ndarray], batch: int = 8) -> list[np.ndarray]:
        """Images, each (H, W) uint8 of any size, -> masks, each (H, W) uint8: 0 background, i the i-th class."""
        return predict(self.network, images, self.size, self.device, self.config.get("precision", "bf16"), batch)


@torch.inference_mode()
def predict(
    network: nn.Module, images: Sequence[np.ndarray], size: int, device: torch.device, precision: str, batch: int = 8
) -> list[np.ndarray]:
    """Label images at their own size; logits are enlarged, not labels, so that edges stay smooth.

    Args:
        images: (H, W) uint8 each, any size.
        size: side of the square the network sees.
        precision: ``bf16`` or ``no``.

    Returns:
        (H, W) uint8 each, channel numbers.
    """
    masks: list[np.ndarray] = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        x = torch.from_numpy(np.stack([squash(image, size) for image in part])[:, None].astype(np.float32) / 255)
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
            logits = network(x.to(device))
        for image, one in zip(part, logits.float(), strict=True):
            large = F.interpolate(one[None], size=image.shape, mode="bilinear", align_corners=False)
            masks.append(large[0].argmax(dim=0).byte().cpu().numpy())
    return masks


def squash(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) uint8 -> (size, size) uint8; the same for training and use."""
    if image.shape == (size, size):
        return image
    return np.asarray(Image.fromarray(image, mode="L").resize((size, size), Image.Resampling.BILINEAR))


def load(folder: Path, device: torch.device) -> Segmenter:
    """A trained network from its folder or run folder.

    Raises:
        MissingError: there is none.
        MismatchError: the weights are not those the config was written with.
    """
    place, config = read_config(folder, {*SHAPE, "classes"}, "segmentation network", "train-seg")
    with built(place):
        network = Network(config["arch"], config["encoder"], len(config["classes"]), config["options"])
        network.body.load_state_dict(read_weights(place / "model.safetensors"))
        return Segmenter(network.eval().to(device), tuple(config["classes"]), int(config["size"]), device, config)


def start_from(
    network: Network, classes: Sequence[str], folder: Path, arch: str, encoder: str, options: Mapping[str, Any]
) -> str:
    """Fine-tune: take over the weights of a trained network; output channels are matched by class name.

    Returns:
        sha256 of the weights taken over.

    Raises:
        MismatchError: another architecture, or no class in common.
    """
    other = load(folder, torch.device("cpu"))
    theirs = (other.config["arch"], other.config["encoder"], other.config["options"])
    if theirs != (arch, encoder, dict(options)):
        raise MismatchError(
            f"{folder} is {theirs[0]} with {theirs[1]} (options {theirs[2]}), "
            f"not {arch} with {encoder} (options {dict(options)})",
            "use the architecture, encoder and options it was trained with, or leave out --init",
        )
    if not set(classes) & set(other.classes):
        what = f"{folder} knows {', '.join(other.classes)}, none of {', '.join(classes)}"
        raise MismatchError(what, "leave out --init")
    state, ours = other.network.state_dict(), network.state_dict()
    shared = [name for name in classes if name in other.classes]
    pairs = [(0, 0)] + [(classes.index(name) + 1, other.classes.index(name) + 1) for name in shared]
    for name, value in ours.items():
        if name.startswith("body.segmentation_head"):
            # A class that is new keeps its fresh channel.
            for mine, its in pairs:
                value[mine] = state[name][its]
            state[name] = value
    network.load_state_dict(state)
    return str(other.config["sha256"])
