"""A small head on the features of the UNet, fitted on a few labelled images, that says which class a pixel is of.

DatasetDM (Wu et al., NeurIPS 2023, section 3.3) decodes features of Stable Diffusion; VPD (Zhao et al., ICCV 2023)
shows that one pass with little noise is enough. The features know what is where on a grid an eighth as fine as the
image; two convolutions on the image itself add where exactly its edges run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrsynth.auxiliary_files import about
from cxrsynth.errors import MismatchError
from cxrsynth.nets import auxiliary

GROUPS = 8


class Head(nn.Module):
    """Features of the network and the image -> class logits at half the image's size.

    Args:
        channels: of the features, in the order of `observe_features`.
        classes: K, background not counted.
        width: channels inside, half as many at the finest size; a multiple of 16.
    """

    def __init__(self, channels: Sequence[int], classes: int, width: int = 32) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"channels": list(channels), "classes": classes, "width": width}
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(GROUPS, count), nn.Conv2d(count, width, 1)) for count in channels
        )
        self.edges = nn.ModuleList([block(1, 8, stride=2), block(8, 16, stride=2)])
        self.merge = block(len(channels) * width, 2 * width)
        self.up = nn.ModuleList([block(2 * width + 16, width), block(width + 8, width // 2)])
        self.out = nn.Conv2d(width // 2, classes + 1, 1)

    def forward(self, features: Sequence[Tensor], picture: Tensor) -> Tensor:
        """[(B, C, h, w) float32, ...], (B, 1, H, W) float32 in -1..1 -> (B, K + 1, H / 2, W / 2), background first."""
        finest = features[-1].shape[-2:]
        x = self.merge(
            torch.cat([fit(narrow(one), finest) for narrow, one in zip(self.narrow, features, strict=True)], dim=1)
        )
        half = self.edges[0](picture)
        quarter = self.edges[1](half)
        for up, edges in zip(self.up, (quarter, half), strict=True):
            x = up(torch.cat([fit(x, edges.shape[-2:]), edges], dim=1))
        logits: Tensor = self.out(x)
        return logits


def block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """A convolution, normalised per image: what an image scores does not depend on its batch."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=stride, padding=1), nn.GroupNorm(GROUPS, outside), nn.SiLU()
    )


def fit(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


@contextmanager
def observe_features(unet: nn.Module) -> Iterator[list[Tensor]]:
    """A list that holds, after every pass of ``unet``, what its first layer saw, then its up-blocks, coarsest first.

    Each is (B, C, h, w) float32, the first and the last on the finest grid. The first layer has seen little but the
    image itself: edges are sharpest there. All hooks are gone when the block is left.
    """
    features: list[Tensor] = []
    handles = [unet.register_forward_pre_hook(lambda module, args: features.clear())]

    def keep(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        features.append(output.float())

    def keep_first(module: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, tuple[Tensor, ...]]) -> None:
        features.append(output[1][0].float())

    try:
        handles.append(unet.get_submodule("down_blocks.0").register_forward_hook(keep_first))
        handles.extend(part.register_forward_hook(keep) for part in unet.get_submodule("up_blocks").children())
        yield features
    finally:
        for handle in handles:
            handle.remove()


def as_input(images: np.ndarray, device: torch.device) -> Tensor:
    """(B, H, W) uint8 -> (B, 1, H, W) float32 in -1..1."""
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1)[:, None].to(device)


def load(path: Path, model: str, device: torch.device) -> Head:
    """The head in a file.

    Args:
        model: digest of the model whose features it will see.

    Raises:
        MissingError: the file is not there, or no mask head.
        MismatchError: it was fitted on the features of another model.
    """
    told = about(path, "head")
    if told["model"] != model:
        raise MismatchError(
            f"the mask head {path.name} was fitted on another model than this one",
            "label without one: --set 'masks.refine=[crf, laterality, morphology]'; or fit one on images with masks: "
            "'cxrsynth train-mask-head DATA --model MODEL -o FILE'",
        )
    return auxiliary.read(Head, path, "head").to(device)
