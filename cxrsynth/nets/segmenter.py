"""A segmentation network in a folder: any architecture and encoder of segmentation-models-pytorch, one gray channel.

DIR/model.safetensors   weights, float32
DIR/config.json         architecture, classes in the order of the channels, size, and how it was trained
DIR/metrics.json        what validation said

``smp.from_pretrained(DIR)`` opens the same folder: what smp needs stands on top of ``config.json``, the rest under
`OURS`, which smp and timm pass over. Their network wants its input as ``(x - MEAN) / DEVIATION``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cxrsynth.data.documents import read_json
from cxrsynth.encoding import dumps, file_sha256
from cxrsynth.errors import CxrError, MismatchError, MissingError, UsageError
from cxrsynth.nets import imagenet
from cxrsynth.registry import unknown

MEAN, DEVIATION = 0.449, 0.226  # of gray natural pictures, so that encoder weights learned on them find their range
OURS = "_cxrsynth"
AGAIN = "copy the folder again, or train again"
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


def load_encoder(network: Network, path: Path) -> None:
    """Start the encoder of a segmentation network from a file of weights, as `read_encoder` does."""
    read_encoder(network.body.encoder, path)


def start_from_imagenet(network: Network, encoder: str) -> None:
    """Start the encoder of a segmentation network from the ImageNet weights that come with the extra ``pretrained``.

    Args:
        encoder: its name, ``tu-tf_efficientnet_lite0`` for example.

    Raises:
        UsageError: there are none of this encoder.
        MissingError: the extra is not installed.
    """
    name = imagenet.name_of(encoder)
    fill_encoder(network.body.encoder, imagenet.state(name), f"the ImageNet weights of {name}")


def read_encoder(encoder: nn.Module, path: Path, fresh: Collection[str] = ()) -> None:
    """Start an encoder from a file of weights, ``.safetensors`` or what torch wrote; three input channels become one.

    Args:
        fresh: tensors that keep what they have, such as those of a classifier's head.

    Raises:
        MissingError: no such file.
        MismatchError: the weights belong to another encoder.
    """
    if not path.is_file():
        raise MissingError(f"{path} does not exist", "download the encoder's weights yourself, or leave the option out")
    state: Any
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    fill_encoder(encoder, state.get("state_dict", state), str(path), fresh)


def fill_encoder(encoder: nn.Module, state: Mapping[str, Tensor], origin: str, fresh: Collection[str] = ()) -> None:
    """Start an encoder from weights under the names of timm or smp, as `read_encoder` does from a file.

    Args:
        origin: where they are from, for the error.

    Raises:
        MismatchError: the weights belong to another encoder.
    """
    ours = encoder.state_dict()
    # timm encoders live one level deeper inside smp than in a file of timm itself.
    nested = all(name.startswith("model.") for name in ours) and not any(name in ours for name in state)
    prefix = "model." if nested else ""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        target = ours.get(prefix + name)
        if target is None or prefix + name in fresh:
            continue  # the classifier's head
        if value.shape != target.shape and value.ndim == 4 and value.shape[1] == 3 and target.shape[1] == 1:
            value = value.sum(dim=1, keepdim=True)
        if value.shape == target.shape:
            found[prefix + name] = value
    needed = [name for name in ours if name not in fresh and not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in found]
    if missing:
        raise MismatchError(
            f"{origin} lacks {len(missing)} of {len(needed)} tensors of the encoder, for example {missing[0]}",
            "the weights belong to another --encoder",
        )
    encoder.load_state_dict({**ours, **found})


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


def save(
    folder: Path,
    network: nn.Module,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    outside: Mapping[str, Any] | None = None,
) -> None:
    """Write weights, config and metrics into a new folder.

    Args:
        network: its ``body`` is what is written.
        outside: what the library behind the network wants to find in ``config.json``.
    """
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    body: Any = network.body
    save_file({name: value.detach().cpu().contiguous() for name, value in body.state_dict().items()}, weights)
    (folder / "metrics.json").write_bytes(dumps(metrics))
    ours = {**config, "sha256": file_sha256(weights)}
    (folder / "config.json").write_bytes(dumps({**(outside or {}), OURS: ours}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a network's body; those of older folders carry a prefix."""
    state: dict[str, Tensor] = load_file(path)
    return {name.removeprefix("body."): value for name, value in state.items()}


def locate(folder: Path, what: str = "segmentation network", command: str = "train-seg") -> Path:
    """The folder that holds the network: the one given, or ``model`` in a run folder.

    Args:
        what: is looked for, and the command that makes one; for the error.

    Raises:
        MissingError: neither does.
    """
    for place in (folder, folder / "model"):
        if (place / "config.json").is_file() and (place / "model.safetensors").is_file():
            return place
    raise MissingError(
        f"{folder} holds no trained {what} (config.json, model.safetensors)",
        f"train one: cxrsynth {command} --data DATASET -o {folder}",
    )


def own_config(place: Path) -> dict[str, Any]:
    """What this package wrote into ``config.json``.

    Raises:
        MismatchError: it is damaged.
    """
    path = place / "config.json"
    try:
        config = read_json(path)
    except UsageError as error:
        raise MismatchError(error.message, AGAIN) from error
    own = config.get(OURS, config) if isinstance(config, dict) else None  # older folders hold nothing else
    if not isinstance(own, dict):
        raise MismatchError(f"{path} describes no network", AGAIN)
    return own


@contextmanager
def built(place: Path) -> Iterator[None]:
    """Turn what building a network from a config that does not fit its weights raises into an error that names it.

    Raises:
        MismatchError: instead of it.
    """
    try:
        yield
    except CxrError:
        raise
    except Exception as error:  # four libraries take part
        raise MismatchError(f"the network in {place} cannot be built: {error}", AGAIN) from error


def read_config(folder: Path, keys: Collection[str], what: str, command: str) -> tuple[Path, dict[str, Any]]:
    """The place of a trained network and its ``config.json``, both checked.

    Args:
        keys: that only a config of this kind has.

    Raises:
        MissingError: there is none.
        MismatchError: it is of another kind, or the weights are not those the config was written with.
    """
    place = locate(folder, what, command)
    config = own_config(place)
    if not {*keys, "sha256"} <= set(config):
        path = place / "config.json"
        raise MismatchError(f"{path} is not of a {what}", f"name a folder of {command}")
    if file_sha256(place / "model.safetensors") != config["sha256"]:
        path = place / "model.safetensors"
        raise MismatchError(f"{path} was changed since it was trained", AGAIN)
    return place, config


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
