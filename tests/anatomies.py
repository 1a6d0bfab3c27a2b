"""Label maps and an untrained anatomy network, for tests of the controllers."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from cxrsynth.auxiliary_files import AUXILIARY
from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.domain.atlas import open_atlas
from cxrsynth.nets.anatomy import AnatomyNet


def chest(ratio: float = 0.5, size: int = 64) -> np.ndarray:
    """(size, size) uint8: 1 right lung, 2 left lung, 3 heart, whose width is ``ratio`` times that of the chest."""
    mask = np.zeros((size, size), np.uint8)
    left, right, middle = size // 8, size - size // 8, size // 2
    mask[size // 6 : -size // 6, left : middle - size // 16] = 1
    mask[size // 6 : -size // 6, middle + size // 16 : right] = 2
    wide = round(ratio * (right - left))
    mask[size // 2 : -size // 6, middle - wide // 2 : middle - wide // 2 + wide] = 3
    return mask


def folder(path: Path, count: int = 3, size: int = 64) -> Path:
    """A folder of PNG label maps."""
    path.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(chest(0.4 + 0.05 * number, size)).save(path / f"{number}.png")
    return path


def network(path: Path, size: int = 32) -> Path:
    """A small untrained anatomy network, as ``train-anatomy`` writes it."""
    torch.manual_seed(0)
    net = AnatomyNet(("right_lung", "left_lung", "heart"), (8, 8, 8), 1, size)
    about = json.dumps({"format": AUXILIARY["network"].format, "net": net.config})
    save_file({name: value.half() for name, value in net.state_dict().items()}, path, {"cxrsynth": about})
    return path


def pictured() -> tuple[np.ndarray, np.ndarray]:
    """A picture made of a bundled label map with a small heart, with some detail: (256, 256) uint8 each."""
    atlas = open_atlas("wingspan")
    labels = next(mask for mask in map(atlas.load, atlas.keys) if 0.38 < cardiothoracic(mask) < 0.46)
    grain = np.random.default_rng(0).normal(0, 6, labels.shape)
    image = np.where(labels == CLASSES["heart"], 205.0, np.where(labels > 0, 90.0, 170.0)) + grain
    return image.clip(0, 255).astype(np.uint8), labels
