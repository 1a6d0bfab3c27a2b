"""From a label map to a pseudo-radiograph: what the anatomy controller shows the diffusion model.

After XReal (arXiv 2403.09240, section 3): an autoencoder in pixel space, so that the autoencoder of any diffusion model
encodes what it gives. It has one channel per class and one for gray levels: label maps go in by the former, and half of
the items of its training are images that come in by the latter and go out as they are, which keeps the decoder on
images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrsynth.nets import auxiliary

STRIDE = 8  # sides of what goes in are multiples of it


class Residual(nn.Module):
    """Two 3x3 convolutions beside an identity; dilation lets the middle see the whole image."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return x + self.body(x)


class AnatomyNet(nn.Module):
    """Label maps or images -> images.

    Args:
        classes: names of the classes whose maps it reads, in the order of its channels.
        widths: channels at 1/2, 1/4 and 1/8 of the image; multiples of 8.
        middle: residual blocks at 1/8, with dilations 1, 2, 4, 8 in turn.
        size: side of the square it was trained at.
    """

    def __init__(
        self,
        classes: Sequence[str],
        widths: Sequence[int] = (24, 48, 112),
        middle: int = 4,
        size: int = 256,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "classes": list(classes),
            "widths": list(widths),
            "middle": middle,
            "size": size,
        }
        self.classes, self.size = tuple(classes), size
        first, second, third = widths
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),  # (B, 4 (K + 1), H/2, W/2): full resolution costs most and holds least
            nn.Conv2d(4 * (len(classes) + 1), first, 3, padding=1),
            Residual(first),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            Residual(second),
            nn.Conv2d(second, third, 4, stride=2, padding=1),
            *(Residual(third, 2 ** (i % 4)) for i in range(middle)),
        )
        self.decoder = nn.Sequential(
            Residual(third),
            nn.Conv2d(third, 4 * second, 1),
            nn.PixelShuffle(2),
            Residual(second),
            nn.Conv2d(second, 4 * first, 1),
            nn.PixelShuffle(2),
            Residual(first),
            nn.GroupNorm(8, first),
            nn.SiLU(),
            nn.Conv2d(first, 4, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, K + 1, H, W) float32, class planes 0..1 then gray -1..1 -> (B, 1, H, W) image, about -1..1."""
        image: Tensor = self.decoder(self.encoder(x))
        return image

    @torch.inference_mode()
    def draw(self, planes: np.ndarray) -> Tensor:
        """Images of label maps.

        Args:
            planes: (B, K, H, W) bool, K in the order of ``classes``; any size, brought to the one of the training.

        Returns:
            (B, 1, H, W) float32 in -1..1, on the device of the network.
        """
        where = next(self.parameters()).device
        height, width = planes.shape[-2:]
        x = torch.from_numpy(planes.astype(np.float32)).to(where)
        if (height, width) != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="area")
        image = self(torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)).clamp(-1, 1)
        if (height, width) != (self.size, self.size):
            image = F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False).clamp(-1, 1)
        return image


def load(path: Path) -> AnatomyNet:
    """The network in a file that ``cxrsynth train-anatomy`` wrote, on the CPU in float32.

    Raises:
        MissingError: the file is not there, or no AnatomyNet.
    """
    return _load(str(path), path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=2)
def _load(path: str, changed: int) -> AnatomyNet:
    return auxiliary.read(AnatomyNet, Path(path), "network")
