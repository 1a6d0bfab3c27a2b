"""The network that says which neighbouring places belong together (psa, Ahn and Kwak, CVPR 2018, section 3.2).

This is the only file of the room that needs torch; it is imported when a recipe names weights, not before.
"""

from __future__ import annotations

import multiprocessing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrsynth.nets import auxiliary

# The coarsest grid of the encoder: an image is filled up to a multiple of it.
COARSEST = 16


class AffinityNet(nn.Module):
    """A compact encoder whose grids at stride 4, 8 and 16 are merged into one feature per place.

    Args:
        encoder: name of a timm model with features at these strides.
        width: features per place.
        stride: pixels between places, 4 or 8.
    """

    def __init__(self, encoder: str = "regnetx_002", width: int = 32, stride: int = 4) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"encoder": encoder, "width": width, "stride": stride}
        # out_indices 1, 2, 3 are the grids at stride 4, 8 and 16.
        grids: Any = timm.create_model(encoder, pretrained=False, features_only=True, in_chans=1, out_indices=(1, 2, 3))
        channels: list[int] = grids.feature_info.channels()
        self.encoder = grids
        self.narrow = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.head = nn.Sequential(nn.ELU(), nn.Conv2d(3 * width, width, 3, padding=1))
        self.stride = stride

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) float32 in -1..1, sides multiples of 16 -> (B, C, H / stride, W / stride) float32."""
        size = (image.shape[-2] // self.stride, image.shape[-1] // self.stride)
        grids = [
            F.interpolate(narrow(grid), size=size, mode="bilinear", align_corners=False)
            for narrow, grid in zip(self.narrow, self.encoder(image), strict=True)
        ]
        features: Tensor = self.head(torch.cat(grids, dim=1))
        return features


def features(path: Path, image: np.ndarray) -> np.ndarray:
    """What the network of a file sees.

    Args:
        path: file that `cxrsynth train-affinity` wrote.
        image: (H, W) uint8.

    Returns:
        (C, ceil(H / stride), ceil(W / stride)) float32.

    Raises:
        MissingError: the file is not there, or no AffinityNet.
    """
    net = load(path)
    height, width = image.shape
    filled = np.pad(image, ((0, -height % COARSEST), (0, -width % COARSEST)), mode="edge")
    with torch.inference_mode():
        found = net(torch.from_numpy(filled.astype(np.float32) / 127.5 - 1)[None, None])[0]
    return found[:, : -(-height // net.stride), : -(-width // net.stride)].contiguous().numpy()


def load(path: Path) -> AffinityNet:
    """The network in a file, on the CPU; a file that has changed is read again.

    Raises:
        MissingError: the file is not there, or no AffinityNet.
    """
    return _load(str(path), path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=4)
def _load(path: str, changed: int) -> AffinityNet:
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # a pool already keeps every core busy
    return auxiliary.read(AffinityNet, Path(path), "weights")
