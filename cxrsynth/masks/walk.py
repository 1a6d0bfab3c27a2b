"""Random walk over an image: what is said of a place spreads to places that look alike, and stops at edges.

Ahn and Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision" (psa), CVPR 2018, section 3.3, as
DiffuMask (ICCV 2023, section 3.3) uses it: affinities of neighbours within a radius, sharpened by a power, normalised
to a transition matrix that is applied many times. Two things are done otherwise. The matrix stays sparse: its power is
never formed, only its products with the K maps. And places at the border have fewer neighbours instead of none.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from scipy.sparse import block_diag, csr_matrix
from scipy.special import gammaln

# What the dropped terms of the expansion may weigh together; single precision resolves no more.
TAIL = 1e-7


@lru_cache(maxsize=8)
def offsets(radius: int) -> tuple[tuple[int, int], ...]:
    """(dy, dx) of half of the neighbours nearer than ``radius``; their mirror images are the other half. 34 for 5."""
    ahead = [(0, x) for x in range(1, radius)]
    below = [(y, x) for y in range(1, radius) for x in range(1 - radius, radius) if x * x + y * y < radius * radius]
    return tuple(ahead + below)


@lru_cache(maxsize=8)
def pairs(height: int, width: int, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of neighbours on a grid, each once, without wrap-around at the border.

    Returns:
        Two (M,) int32 arrays of node numbers in row-major order.
    """
    nodes = np.arange(height * width, dtype=np.int32).reshape(height, width)
    first, second = [], []
    for dy, dx in offsets(radius):
        if dy >= height or abs(dx) >= width:
            continue
        first.append(nodes[: height - dy, max(0, -dx) : width - max(0, dx)].ravel())
        second.append(nodes[dy:, max(0, dx) : width - max(0, -dx)].ravel())
    none = np.zeros(0, np.int32)
    return np.concatenate([none, *first]), np.concatenate([none, *second])


def affinities(features: np.ndarray, radius: int) -> np.ndarray:
    """How alike neighbours are: exp(-mean |f_i - f_j|) (psa, equation 1).

    Args:
        features: (C, h, w) float32.

    Returns:
        (M,) float32 in 0..1, in the order of `pairs`.
    """
    channels, height, width = features.shape
    flat = np.ascontiguousarray(features.reshape(channels, -1).T)  # (N, C): a node's numbers lie together
    first, second = pairs(height, width, radius)
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), 1 << 16):  # in pieces that stay in the processor's cache
        part = slice(start, start + (1 << 16))
        found[part] = np.exp(-np.abs(flat[first[part]] - flat[second[part]]).mean(axis=1))
    return found


def transition(affinity: np.ndarray, height: int, width: int, radius: int, beta: float) -> csr_matrix:
    """The transition matrix of psa (equation 2): affinities to the power beta, each place divided by its own sum.

    A place is its own neighbour with affinity 1, so no place is cut off.

    Args:
        affinity: (M,) float32 in 0..1, in the order of `pairs`.

    Returns:
        (N, N) float32 whose rows sum to 1: a product with (N, K) values averages over neighbours.
    """
    first, second = pairs(height, width, radius)
    count = height * width
    own = np.arange(count, dtype=np.int32)
    sharp = affinity.astype(np.float32) ** np.float32(beta)
    values = np.concatenate([sharp, sharp, np.ones(count, np.float32)])
    rows, columns = np.concatenate([first, second, own]), np.concatenate([second, first, own])
    degree = np.bincount(rows, weights=values, minlength=count)
    return csr_matrix((values / degree[rows].astype(np.float32), (rows, columns)), shape=(count, count))


@lru_cache(maxsize=16)
def expansion(steps: int) -> np.ndarray:
    """x**steps as a sum of Chebyshev polynomials, cut where the rest weighs less than `TAIL`.

    c_k = 2**(1 - steps) binomial(steps, (steps - k) / 2) for k of the parity of steps, half of that for k = 0. The
    coefficients fall off like a bell of width sqrt(steps) (Sachdeva and Vishnoi, "Faster Algorithms via Approximation
    Theory", 2014, theorem 3.3), so that 256 steps cost 90 products.

    Returns:
        (degree + 1,) float64 that sum to 1.
    """
    k = np.arange(steps % 2, steps + 1, 2)
    low, high = (steps - k) / 2, (steps + k) / 2
    logarithm = gammaln(steps + 1) - gammaln(low + 1) - gammaln(high + 1) + (1 - steps) * np.log(2)
    found = np.zeros(steps + 1)
    found[k] = np.exp(logarithm)
    if steps % 2 == 0:
        found[0] /= 2
    rest = np.cumsum(found[::-1])[::-1]  # what this term and all after it weigh
    kept = found[: max(1, int((rest > TAIL).sum()))]
    return kept / kept.sum()  # what everybody agrees on stays as it is


def stack(matrices: Sequence[csr_matrix]) -> csr_matrix:
    """Several images as one walk: (N_i, N_i) each -> (sum N_i, sum N_i), without a step from one to another."""
    return block_diag(matrices, format="csr", dtype=np.float32)


def walk(matrix: csr_matrix, values: np.ndarray, steps: int, device: str | None = None) -> np.ndarray:
    """``matrix**steps @ values`` by sparse products alone.

    Args:
        matrix: (N, N) as `transition` gives it, or of several images as `stack` does.
        values: (N, K) float32.
        steps: how often the matrix is applied; psa takes 2**8.
        device: of torch (``cuda``, ``cpu``); None computes with scipy, which is faster than torch on a CPU.

    Returns:
        (N, K) float32, within the range of ``values``.

    Raises:
        UsageError: the device is not there.
    """
    weights = expansion(steps)
    if device is None:
        total = expand(matrix, values.astype(np.float32), weights)
    else:
        total = on_device(matrix, values.astype(np.float32), weights, device)
    return np.clip(total, values.min(axis=0), values.max(axis=0)).astype(np.float32)


def expand(matrix: Any, values: Any, weights: np.ndarray) -> Any:
    """The sum of ``weights[k] T_k(matrix) @ values``, T_k the Chebyshev polynomials, for arrays and tensors alike."""
    before, now = values, matrix @ values
    total = float(weights[0]) * before
    for weight in weights[1:].tolist():
        if weight:
            total += weight * now
        before, now = now, 2 * (matrix @ now) - before
    return total


def on_device(matrix: csr_matrix, values: np.ndarray, weights: np.ndarray, device: str) -> np.ndarray:
    """The same with torch's sparse products on one device."""
    import torch

    from cxrsynth.device import resolve

    where = resolve(device)
    rows, columns, data = (torch.from_numpy(part).to(where) for part in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse tensors a beta at every first use
        sparse = torch.sparse_csr_tensor(rows, columns, data, matrix.shape, dtype=torch.float32, check_invariants=False)
    found: np.ndarray = expand(sparse, torch.from_numpy(values).to(where), weights).cpu().numpy()
    return found


def spread(
    planes: np.ndarray, matrix: csr_matrix, height: int, width: int, steps: int, device: str | None = None
) -> np.ndarray:
    """Walk with planes on a coarser grid, and come back to the image's.

    Args:
        planes: (K, H, W) float32; each walks on its own.
        height: rows of the grid.
        width: columns of the grid.
        device: as in `walk`.

    Returns:
        (K, H, W) float32, each plane within its own range; planes that sum to 1 still do.
    """
    small = np.stack([resize(one, height, width) for one in planes])
    walked = walk(matrix, small.reshape(len(planes), -1).T, steps, device).T.reshape(small.shape)
    return np.stack([resize(one, *planes.shape[1:]) for one in walked])


def resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) float32 -> (height, width) float32; area means downwards, straight lines upwards, no overshoot."""
    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
