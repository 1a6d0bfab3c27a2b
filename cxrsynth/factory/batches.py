"""Batches for a generator: always of the recipe's size, their empty places filled with images that are needed later.

The same noise gives other bits at another batch size, so batches are never short. A worker is told which shards it will
make next, and what stands beside the images of one shard are images of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

import numpy as np

from cxrsynth.recipe import Recipe
from cxrsynth.records import Draw, Generator, Spec


def shards_ahead(recipe: Recipe) -> int:
    """How many shards a worker has to know beforehand: each of its rounds leaves less than a batch of places empty."""
    return -(-recipe.sampler.batch * recipe.curate.attempts // recipe.shard) + 1


class Spare:
    """First draws of the next shards, made in the empty places of short batches.

    An image depends on its Spec and the size of the batch, not on what is beside it: made early it has the same bits.

    Args:
        made: draws that were made early, of this shard and of later ones, by index.
        specs: the slots of the next shards that are not among them, at their first attempt.
    """

    def __init__(self, made: dict[int, Draw], specs: Iterable[Spec]) -> None:
        self.made, self.specs = made, iter(specs)
        self.kept: dict[int, Draw] = {}

    def take(self, specs: list[Spec]) -> list[tuple[Spec, Draw]]:
        """What was made early of these."""
        return [(one, self.made[one.index]) for one in specs if one.attempt == 0 and one.index in self.made]

    def fill(self, places: int) -> list[Spec]:
        """Up to so many slots of the next shards."""
        return list(islice(self.specs, places))

    def whole(self, places: int) -> list[Spec]:
        """So many slots of the next shards, or none where there are not so many."""
        found = self.fill(places)
        if len(found) < places:
            self.specs = chain(found, self.specs)
            return []
        return found


def draws(
    specs: Iterable[Spec], generator: Generator, batch: int, spare: Spare | None = None
) -> Iterator[list[tuple[Spec, Draw]]]:
    """Specs -> batches of draws, in order. The batch size is always the recipe's.

    The same noise gives other bits at another batch size, so a short batch is filled up, with slots of the next shards
    or else with its last Spec: an image then depends on its Spec alone, not on how many were rejected or asked for
    beside it.
    """
    spare = spare or Spare({}, ())
    specs = list(specs)
    early = spare.take(specs)
    if early:  # always the first of a shard, for places are filled in order
        yield early
    # What a generator can do beforehand on a processor, it does for the next batch while this one is generated.
    prepare = getattr(generator, "prepare", lambda specs: None)
    rest = specs[len(early) :]
    for start in range(0, len(rest), batch):
        group = rest[start : start + batch]
        prepare(rest[start : start + 2 * batch])
        extra = spare.fill(batch - len(group))
        try:
            found = generator.draw(padded(group + extra, batch))
        except Exception:
            if not extra:
                raise
            # Whose fault it is shows when the others are made: this shard does not answer for them.
            spare.specs, extra = iter(()), []
            found = generator.draw(padded(group, batch))
        found = list(map(quantise, found))
        spare.kept |= {one.index: draw for one, draw in zip(extra, found[len(group) :], strict=False)}
        yield list(zip(group, found, strict=False))


def padded(specs: list[Spec], batch: int) -> list[Spec]:
    """Filled up with the last one."""
    return specs + specs[-1:] * (batch - len(specs))


def ahead(generator: Generator, recipe: Recipe, spare: Spare | None) -> bool:
    """Generate a whole batch of the next shards; False where there is none to generate, or it went wrong."""
    specs = [] if spare is None else spare.whole(recipe.sampler.batch)
    if spare is None or not specs:
        return False
    try:
        found = generator.draw(specs)
    except Exception:  # raised again where these are asked for
        spare.specs = iter(())
        return False
    spare.kept |= {one.index: quantise(draw) for one, draw in zip(specs, found, strict=True)}
    return True


def quantise(draw: Draw) -> Draw:
    """Maps as they are stored (float16), so that relabelling from the store gives the masks of the first run."""
    return replace(draw, maps=draw.maps.astype(np.float16).astype(np.float32))
