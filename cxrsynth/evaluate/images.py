"""How far drawn films are from real ones, how varied they are, and whether any is a copy.

The features are the latents of the model's own autoencoder, averaged over an 8 x 8 grid: they know tone and layout, not
disease, and are no Inception features. Figures can be compared within one autoencoder only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

from cxrsynth.dataset import images, rows, trainable
from cxrsynth.evaluate.results import Record, bootstrap, record
from cxrsynth.store import Row
from cxrsynth.train.autoencoder import encode
from cxrsynth.train.bundle import Vae

GRID = 8
NEIGHBOURS = 5


def features(vae: Vae, films: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 -> (N, C * 64) float32."""
    return F.adaptive_avg_pool2d(encode(vae, films), GRID).flatten(1).numpy()


@dataclass(frozen=True, slots=True)
class Seen:
    """Films of one split with their features.

    Attributes:
        rows: N meta lines.
        films: (N, H, W) uint8.
        features: (N, D) float32.
    """

    rows: list[Row]
    films: np.ndarray
    features: np.ndarray


@cache
def see(model: Path, data: Path, split: str = "") -> Seen:
    """The films of a split (all without one) through the model's autoencoder; several figures share them."""
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32).eval()
    chosen = rows(data, (split,) if split else (), trainable)
    films = images(data, chosen)
    return Seen(chosen, films, features(vae, films))


def kid(first: np.ndarray, second: np.ndarray) -> float:
    """Kernel distance of two feature sets: unbiased MMD with the cubic kernel (Binkowski et al., ICLR 2018)."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    m, n = len(first), len(second)
    own = (kernel(first, first).sum() - np.trace(kernel(first, first))) / (m * (m - 1))
    other = (kernel(second, second).sum() - np.trace(kernel(second, second))) / (n * (n - 1))
    return float(own + other - 2 * kernel(first, second).mean())


def kid_interval(first: np.ndarray, second: np.ndarray, folds: int = 20) -> tuple[float, float, float]:
    """KID with a 95 % interval from a jackknife over folds.

    Not from a bootstrap: drawing a film twice makes a set more like itself, which moves the distance.
    """
    a, b = (np.arange(len(x)) % folds for x in (first, second))
    left_out = np.array([kid(first[a != fold], second[b != fold]) for fold in range(folds)])
    error = 1.96 * float(np.sqrt((folds - 1) * left_out.var()))
    value = kid(first, second)
    return value, value - error, value + error


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> (N, M) Euclidean distances."""
    return np.sqrt(np.maximum((first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T, 0))


def manifold(real: np.ndarray, made: np.ndarray, k: int = NEIGHBOURS) -> dict[str, np.ndarray]:
    """Precision and recall (Kynkäänniemi et al., NeurIPS 2019), density and coverage (Naeem et al., ICML 2020).

    Returns:
        metric -> one value per made (precision, density) or real (recall, coverage) film; their means are the figures.
    """
    between = distances(real, made)
    real_radius = np.sort(distances(real, real), axis=1)[:, k]
    made_radius = np.sort(distances(made, made), axis=1)[:, k]
    inside = between <= real_radius[:, None]
    return {
        "precision": inside.any(axis=0).astype(float),
        "recall": (between <= made_radius[None]).any(axis=1).astype(float),
        "density": inside.sum(axis=0) / k,
        "coverage": inside.any(axis=1).astype(float),
    }


def correlation(first: np.ndarray, second: np.ndarray, side: int = 32) -> np.ndarray:
    """(N, H, W), (M, H, W) uint8 -> (N, M) pixel correlation of the films at ``side`` pixels."""

    def small(films: np.ndarray) -> np.ndarray:
        grid = F.adaptive_avg_pool2d(torch.from_numpy(films[:, None].astype(np.float32)), side).flatten(1).numpy()
        grid -= grid.mean(axis=1, keepdims=True)
        return grid / np.maximum(np.linalg.norm(grid, axis=1, keepdims=True), 1e-6)

    return small(first) @ small(second).T


def pairs_alike(films: np.ndarray, pairs: int = 60, seed: int = 0) -> np.ndarray:
    """(P,) MS-SSIM of random pairs of (N, H, W) uint8 films."""
    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.choice(len(films), size=2, replace=False) for _ in range(pairs)])
    a, b = (torch.from_numpy(films[chosen[:, i]].astype(np.float32))[:, None] / 255 for i in (0, 1))
    # Three scales: five would need films of more than 160 pixels after four halvings of an 11-pixel window.
    weights = (0.3, 0.35, 0.35)
    return np.array(
        [float(ms_ssim(x[None], y[None], data_range=1.0, betas=weights)) for x, y in zip(a, b, strict=True)]
    )


def fidelity(model: Path, real: Path, made: Path, split: str = "test", name: str = "") -> list[Record]:
    """KID, precision, recall, density, coverage and MS-SSIM of drawn films against held-out real ones of adults."""
    held_out, drawn = see(model, real, split), see(model, made)
    adults = np.array([adult(row) for row in held_out.rows])
    a, b = held_out.features[adults], drawn.features
    arm, dataset = name or model.name, f"{real.name}:{split}"
    records = [record("images", arm, dataset, "kid", kid_interval(a, b), len(b), "films")]
    for metric, values in manifold(a, b).items():
        records.append(record("images", arm, dataset, metric, bootstrap(values), len(values), "films"))
    for label, films in ((arm, drawn.films), ("real", held_out.films[adults])):
        alike = pairs_alike(films)
        records.append(record("images", label, dataset, "ms_ssim_between_films", bootstrap(alike), len(alike), "films"))
    return records


def memorisation(model: Path, real: Path, made: Path, name: str = "") -> list[Record]:
    """Nearest training film of each drawn film, next to the nearest training film of each held-out real film."""
    train, test, drawn = see(model, real, "train"), see(model, real, "test"), see(model, made)
    adults = np.array([adult(row) for row in test.rows])
    arm, dataset = name or model.name, f"{real.name}:train"
    records = []
    sets = ((arm, drawn.films, drawn.features), ("real", test.films[adults], test.features[adults]))
    for label, films, seen in sets:
        near = distances(seen, train.features).min(axis=1)
        alike = correlation(films, train.films).max(axis=1)
        records.append(record("images", label, dataset, "nearest_train_distance", bootstrap(near), len(near), "films"))
        records.append(
            record("images", label, dataset, "nearest_train_correlation", bootstrap(alike), len(alike), "films")
        )
        most = (float(alike.max()),) * 3
        records.append(record("images", label, dataset, "highest_train_correlation", most, len(alike), "films"))
    return records


def adult(row: Row) -> bool:
    """Whether a film shows an adult and may be compared with what the default recipe draws."""
    return row.get("population", "adult") != "pediatric"
