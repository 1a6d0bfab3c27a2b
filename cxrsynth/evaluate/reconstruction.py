"""What the autoencoder loses: held-out images in, reconstructions out. No synthetic image can be sharper than these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torchmetrics.functional.image import structural_similarity_index_measure

from cxrsynth.data.dataset import read_images, rows
from cxrsynth.data.patients import patient_id
from cxrsynth.data.sharpness import relative
from cxrsynth.evaluate.results import Record, bootstrap, record
from cxrsynth.nets.autoencoder import decode, encode


def reconstruction(model: Path, data: Path, split: str = "test", most: int = 200, name: str = "") -> list[Record]:
    """PSNR (dB) and SSIM of reconstructions; gradient energy and power bands as a share of the images' own."""
    chosen = rows(data, (split,))
    few = np.random.default_rng(0).permutation(len(chosen))[:most]
    chosen = [chosen[i] for i in sorted(few)]
    images = read_images(data, chosen)
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32).eval()
    again = decode(vae, encode(vae, images))
    error = ((images.astype(np.float32) - again) ** 2).mean(axis=(1, 2))
    psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-6))
    real, made = (torch.from_numpy(x.astype(np.float32))[:, None] / 255 for x in (images, again))
    ssim = np.asarray(structural_similarity_index_measure(made, real, data_range=1.0, reduction="none"))
    patients = [patient_id(row) for row in chosen]
    arm, dataset = name or model.name, f"{data.name}:{split}"
    return [
        record("images", arm, dataset, metric, bootstrap(values, patients), len(values), klass="autoencoder")
        for metric, values in {"psnr": psnr, "ssim": ssim, **relative(again, images)}.items()
    ]
