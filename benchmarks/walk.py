"""The sparse walk against the dense one: same result, how much faster; several images at once, and on CUDA.

    python -m benchmarks.walk

Writes to ``results/masks.json``, dataset ``walk``. The dense form squares the transition matrix eight times, as the
public code of psa and DiffuMask does; affinities and matrix are made once and not timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cxrsynth.evaluate.results import Record, record, write
from cxrsynth.masks.walk import affinities, stack, transition, walk

CLASSES, DOUBLINGS, RADIUS, BETA, IMAGES = 4, 8, 5, 8.0, 8
COMMAND = "make bench-masks"


def figure(arm: str, metric: str, value: float, n: int) -> Record:
    """A record of this benchmark; a time is the fastest of n runs and has no interval."""
    made = record("masks", arm, "walk", metric, (value, math.nan, math.nan), n)
    return {**made, "lo": None, "hi": None, "command": COMMAND}


def fastest(
    work: Callable[[], np.ndarray], repeats: int, clock: Callable[[], float] = time.process_time
) -> tuple[float, np.ndarray]:
    """Seconds of the fastest of a few runs, of processor time by default, and the result."""
    seconds = []
    for _ in range(repeats):
        started = clock()
        result = work()
        seconds.append(clock() - started)
    return min(seconds), result


def compare(side: int) -> list[Record]:
    """All forms on a grid of ``side`` by ``side`` places."""
    rng = np.random.default_rng(0)
    matrices = []
    for _ in range(IMAGES):
        features = rng.normal(size=(32, side, side)).astype(np.float32)
        matrices.append(transition(affinities(features, RADIUS), side, side, RADIUS, BETA))
    matrix, values = matrices[0], rng.random((side * side, CLASSES)).astype(np.float32)
    many = np.tile(values, (IMAGES, 1))

    def dense() -> np.ndarray:
        power = matrix.toarray()
        for _ in range(DOUBLINGS):
            power = power @ power
        return power @ values

    steps, grid = 2**DOUBLINGS, f"{side}x{side}"
    sparse_seconds, sparse = fastest(lambda: walk(matrix, values, steps), 5)
    dense_seconds, exact = fastest(dense, 1)
    together = stack(matrices)
    batch_seconds, _ = fastest(lambda: walk(together, many, steps), 3)
    made = [
        figure(f"{grid} sparse", "seconds", sparse_seconds, 5),
        figure(f"{grid} sparse, {IMAGES} images at once", "seconds", batch_seconds, 3),
        figure(f"{grid} dense", "seconds", dense_seconds, 1),
        figure(f"{grid} sparse", "times_faster", dense_seconds / sparse_seconds, 5),
        figure(f"{grid} sparse", "largest_difference", float(np.abs(sparse - exact).max()), 1),
    ]
    if torch.cuda.is_available():
        cuda_seconds, _ = fastest(lambda: walk(together, many, steps, "cuda"), 3, time.perf_counter)
        made.append(figure(f"{grid} sparse, {IMAGES} images at once, cuda", "seconds", cuda_seconds, 3))
    return made


def main() -> None:
    """Measure and write."""
    for side in (32, 64):
        made = compare(side)
        write(Path("results/masks.json"), made)
        for one in made:
            print(f"{one['arm']:32s} {one['metric']:20s} {one['value']:.5g}", flush=True)


if __name__ == "__main__":
    main()
