"""Weights of an encoder that somebody else trained: a file, or those of ImageNet that a package brings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cxrsynth.errors import MismatchError, MissingError
from cxrsynth.nets import imagenet
from cxrsynth.nets.segmenter import Network


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
