"""What the autoencoder loses: held-out images in, reconstructions out. No synthetic image can be sharper than these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torchmetrics.functional.image import structural_similarity_index_measure

from cxrsynth.data.dataset import read_images, rows
from cxrsynth.data.patients import patient_id
from cxrsynth.data.sharpness import relative
from cxrsynth.evaluate.distances import fid, interval, kid
from cxrsynth.evaluate.features import FeatureNet
from cxrsynth.evaluate.results import Record, bootstrap, record
from cxrsynth.nets.autoencoder import decode, encode

FEWEST = 12  # images on each side that a distance needs


def reconstruction(
    model: Path,
    data: Path,
    split: str = "test",
    most: int = 320,
    name: str = "",
    nets: Sequence[FeatureNet] = (),
    device: str = "cpu",
) -> list[Record]:
    """PSNR (dB) and SSIM of reconstructions; gradient energy and power bands as a share of the images' own.

    With ``nets`` also FID and KID of the reconstructions to real images of other patients; arm ``real`` is the floor:
    the same images before they were reconstructed.

    Args:
        most: images that are reconstructed; as many others are compared with them.
    """
    everyone = rows(data, (split,))
    names = np.array([patient_id(row) for row in everyone])
    patients = np.random.default_rng(0).permutation(np.unique(names))
    first = np.isin(names, patients[: -(-len(patients) // 2)]) if nets else np.ones(len(names), bool)
    chosen, others = ([everyone[i] for i in _some(np.flatnonzero(which), most)] for which in (first, ~first))
    images = read_images(data, chosen)
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32).eval().to(device)
    again = decode(vae, encode(vae, images))
    error = ((images.astype(np.float32) - again) ** 2).mean(axis=(1, 2))
    psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-6))
    real, made = (torch.from_numpy(x.astype(np.float32))[:, None] / 255 for x in (images, again))
    ssim = np.asarray(structural_similarity_index_measure(made, real, data_range=1.0, reduction="none"))
    own = [patient_id(row) for row in chosen]
    arm, dataset = name or model.name, f"{data.name}:{split}"
    records = [
        record("images", arm, dataset, metric, bootstrap(values, own), len(values), klass="autoencoder")
        for metric, values in {"psnr": psnr, "ssim": ssim, **relative(again, images)}.items()
    ]
    if min(len(chosen), len(others)) < FEWEST:
        return records
    for net in nets:
        far = net.see(read_images(data, others))
        for label, pictures in ((arm, again), ("real", images)):
            near = net.see(pictures)
            for metric, distance in (("fid", interval(fid, far, near, folds=10)), ("kid", interval(kid, far, near))):
                klass = f"autoencoded, {net.name}_features"
                records.append(record("images", label, dataset, metric, distance, len(near), klass))
    return records


def _some(places: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, chosen at random, in order."""
    return np.sort(np.random.default_rng(0).permutation(places)[:most])
