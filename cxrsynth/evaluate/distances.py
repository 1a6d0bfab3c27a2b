"""How far two sets of features lie apart. torchmetrics does the arithmetic of FID."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

NEIGHBOURS = 5
FOLDS = 20
Figures = tuple[float, float, float]


def kid(first: np.ndarray, second: np.ndarray) -> float:
    """Kernel distance of (N, D) and (M, D) features: unbiased MMD, cubic kernel (Binkowski et al., ICLR 2018).

    The arithmetic of torchmetrics' `poly_mmd`, which takes sets of the same size only.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    def inside(x: np.ndarray) -> float:
        similar = kernel(x, x)
        return float((similar.sum() - np.trace(similar)) / (len(x) * (len(x) - 1)))

    return inside(a) + inside(b) - 2 * float(kernel(a, b).mean())


class _AsIs(nn.Module):
    """Features that were made before."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def fid(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of (N, D) and (M, D) features (Heusel et al., NeurIPS 2017).

    It shrinks with the number of images, whatever they show: compare it at the same N only.
    """
    if len(first) + len(second) < first.shape[1]:
        # Few images span few directions. In these the distance is the same, and its matrices are small.
        both = np.concatenate([first, second]).astype(np.float64)
        span = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)[2]
        first, second = first @ span.T, second @ span.T
    measure = FrechetInceptionDistance(feature=_AsIs(first.shape[1]))
    # Scaled to a common size: the square root of a product of covariances loses digits where features are tiny.
    scale = float(np.std(first)) or 1.0
    measure.update(torch.from_numpy(np.asarray(first / scale, np.float64)), real=True)
    measure.update(torch.from_numpy(np.asarray(second / scale, np.float64)), real=False)
    return float(measure.compute()) * scale**2


def interval(
    distance: Callable[[np.ndarray, np.ndarray], float], first: np.ndarray, second: np.ndarray, folds: int = FOLDS
) -> Figures:
    """A distance with a 95 % interval from a jackknife over folds.

    Not from a bootstrap: drawing an image twice makes a set more like itself, which moves the distance.
    """
    a, b = (np.arange(len(x)) % folds for x in (first, second))
    left_out = np.array([distance(first[a != fold], second[b != fold]) for fold in range(folds)])
    error = 1.96 * float(np.sqrt((folds - 1) * left_out.var()))
    value = distance(first, second)
    return value, value - error, value + error


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> (N, M) Euclidean distances."""
    return np.sqrt(np.maximum((first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T, 0))


def manifold(real: np.ndarray, made: np.ndarray, k: int = NEIGHBOURS) -> dict[str, np.ndarray]:
    """Precision and recall (Kynkäänniemi et al., NeurIPS 2019), density and coverage (Naeem et al., ICML 2020).

    Returns:
        metric -> one value per made (precision, density) or real (recall, coverage) image; their means are the figures.
    """
    k = min(k, len(real) - 1, len(made) - 1)
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
