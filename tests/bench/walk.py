"""The sparse walk against the dense one: same result, how much faster.

    python -m tests.bench.walk

Prints one JSON line per grid. The dense form squares the transition matrix eight times, as the public code of psa and
DiffuMask does; affinities and matrix are made once and not timed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np

from cxrsynth.masks.walk import affinities, transition, walk

CLASSES, DOUBLINGS, RADIUS, BETA = 4, 8, 5, 8.0


def fastest(work: Callable[[], np.ndarray], repeats: int) -> tuple[float, np.ndarray]:
    """Seconds of the fastest of a few runs, and the result."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


def compare(side: int) -> dict[str, float | str]:
    """Both forms on a grid of ``side`` by ``side`` places."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(32, side, side)).astype(np.float32)
    values = rng.random((side * side, CLASSES)).astype(np.float32)
    matrix = transition(affinities(features, RADIUS), side, side, RADIUS, BETA)

    def dense() -> np.ndarray:
        power = matrix.toarray()
        for _ in range(DOUBLINGS):
            power = power @ power
        return power @ values

    sparse_seconds, sparse = fastest(lambda: walk(matrix, values, 2**DOUBLINGS), 5)
    dense_seconds, exact = fastest(dense, 1)
    return {
        "grid": f"{side}x{side}",
        "sparse_s": round(sparse_seconds, 4),
        "dense_s": round(dense_seconds, 3),
        "times_faster": round(dense_seconds / sparse_seconds, 1),
        "largest_difference": float(np.abs(sparse - exact).max()),
    }


if __name__ == "__main__":
    for side in (32, 64):
        print(json.dumps(compare(side)))
