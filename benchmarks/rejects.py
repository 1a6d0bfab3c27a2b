"""What rejected images cost: batches that a worker generates, over the fewest that hold as many images.

    python -m benchmarks.rejects

Nothing is generated: batches are counted. Each attempt is rejected with the given probability, up to three attempts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.evaluate.results import Record, record, write
from cxrsynth.factory.batches import Spare, draws, shards_ahead
from cxrsynth.factory.prompts import spec
from cxrsynth.recipe import parse
from cxrsynth.records import Draw, Spec

# (batch, shard): images a batch and a shard.
WAYS = ((4, 16), (8, 16), (16, 16), (16, 64))
REJECTED = (0.0, 0.05, 0.1, 0.2, 0.4)
SHARDS = 40


class Counter:
    """A generator that counts its batches and generates nothing."""

    def __init__(self) -> None:
        self.batches = 0

    def draw(self, specs: list[Spec]) -> list[Draw]:
        """Empty draws."""
        self.batches += 1
        return [Draw(np.zeros((1, 1), np.uint8), np.zeros((1, 1, 1), np.float32)) for _ in specs]


def cost(batch: int, shard: int, rejected: float, ahead: bool, seed: int = 0) -> Record:
    """The figure of one way.

    Args:
        rejected: probability that an attempt is rejected.
        ahead: whether short batches are filled with images of the next shards.
    """
    body: dict[str, Any] = {
        "name": "rejects",
        "count": SHARDS * shard,
        "shard": shard,
        "generator": "phantom",
        "classes": [{"name": "heart", "id": 1, "phrase": "heart"}],
        "prompts": {"templates": ["chest"]},
        "sampler": {"height": 64, "width": 64, "batch": batch},
    }
    recipe, counter, random = parse(body), Counter(), np.random.default_rng(seed)
    made: dict[int, Draw] = {}
    for number in range(recipe.shards):
        reach = shards_ahead(recipe) if ahead else 0
        following = range(number + 1, min(number + 1 + reach, recipe.shards))
        later = [index for one in following for index in recipe.shard_indices(one)]
        spare = Spare(made, (spec(recipe, index) for index in later if index not in made))
        pending: Iterable[int] = recipe.shard_indices(number)
        for attempt in range(recipe.curate.attempts):
            for _ in draws([spec(recipe, index, attempt) for index in pending], counter, batch, spare):
                pass
            pending = [index for index in pending if random.random() < rejected]
        made = {index: draw for index, draw in {**made, **spare.kept}.items() if index in later}
    ratio = counter.batches / (recipe.count / batch)
    arm = f"batch {batch}, shard {shard}{'' if ahead else ', each shard alone'}"
    found = record("rejects", arm, f"{rejected:.0%}", "batches_over_least", (ratio, ratio, ratio), recipe.count)
    return {**found, "lo": None, "hi": None, "command": "python -m benchmarks.rejects"}


def main() -> None:
    """Count, and write ``results/rejects.json``."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("results/rejects.json"))
    chosen = options.parse_args()
    records = [cost(*way, share, ahead) for way in WAYS for ahead in (False, True) for share in REJECTED]
    write(chosen.out, records)
    for one in records:
        print(f"{one['arm']:40s} {one['dataset']:>4s} {one['value']:.3f}")


if __name__ == "__main__":
    main()
