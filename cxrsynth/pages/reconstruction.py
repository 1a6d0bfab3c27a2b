"""What the autoencoder makes of held-out images, to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def sheet(path: Path, real: np.ndarray, again: np.ndarray) -> None:
    """PNG, a column an image: real, reconstruction, difference (gray is none), log power of both."""
    columns = []
    for x, y in zip(real, again, strict=True):
        difference = np.clip(128 + 3 * (y.astype(np.float32) - x), 0, 255)
        spectra = [np.log(np.abs(np.fft.fftshift(np.fft.fft2(v.astype(np.float32) - v.mean()))) + 1) for v in (x, y)]
        half = x.shape[1] // 2
        both = np.concatenate([spectra[0][:, :half], spectra[1][:, half:]], axis=1)
        columns.append(np.concatenate([x, y, difference, np.clip(both * 20, 0, 255)]))
    temporary = path.with_name(f".tmp-{path.name}")
    Image.fromarray(np.concatenate(columns, axis=1).astype(np.uint8)).save(temporary, "PNG")
    temporary.replace(path)
