"""Short batches are filled with slots of the next shard, and nothing of it shows in a dataset."""

from pathlib import Path

import numpy as np
import pytest

from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.run import run
from cxrsynth.factory.shard import Spare, draws
from cxrsynth.generate.sampler import Latent
from cxrsynth.recipe import parse
from cxrsynth.records import Draw, Spec
from tests.conftest import latent_body, phantom_body, tree


class Counting:
    """Draws pictures that say which slot they are of, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def draw(self, specs: list[Spec]) -> list[Draw]:
        self.asked.append([one.index for one in specs])
        return [Draw(np.full((4, 4), one.index, np.uint8), np.zeros((1, 1, 1), np.float32)) for one in specs]


def test_a_short_batch_takes_slots_of_the_next_shard() -> None:
    recipe = parse(phantom_body(count=12, shard=6))
    generator, spare = Counting(), Spare({}, (spec(recipe, index) for index in range(6, 12)))
    first = [one for group in draws([spec(recipe, i) for i in range(6)], generator, 4, spare) for one in group]
    assert generator.asked == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [one.index for one, _ in first] == list(range(6))
    then = Spare(spare.kept, ())
    second = [one for group in draws([spec(recipe, i) for i in range(6, 12)], generator, 4, then) for one in group]
    assert generator.asked[2:] == [[8, 9, 10, 11]]
    assert [int(draw.image[0, 0]) for _, draw in second] == list(range(6, 12))


def test_rejected_slots_cost_fewer_batches_than_one_each() -> None:
    """Only the next shard's slots are known, so not every place of a redraw is filled."""
    recipe = parse(phantom_body(count=80, shard=8))
    generator = Counting()
    made: dict[int, Draw] = {}
    for shard in range(10):
        spare = Spare(made, (spec(recipe, index) for index in recipe.shard_indices(shard + 1) if shard < 9))
        for attempt, indices in ((0, recipe.shard_indices(shard)), (1, [shard * 8])):
            for _ in draws([spec(recipe, index, attempt) for index in indices], generator, 8, spare):
                pass
        made = spare.kept
    assert len(generator.asked) <= 16  # ten shards of two batches each without


@pytest.mark.parametrize("shard", [3, 5])
def test_a_dataset_is_the_same_whatever_stood_beside_its_slots(tiny: Path, tmp_path: Path, shard: int) -> None:
    """Shards that are no multiple of the batch, in one run or one by one."""
    recipe = parse(latent_body(tiny, count=8, shard=shard, sampler={"num_inference_steps": 2, "batch": 2}))
    run(make_plan(recipe, tmp_path / "whole"))
    for part in range(recipe.shards):
        run(make_plan(recipe, tmp_path / "parts", part=(part, recipe.shards)), part=(part, recipe.shards))
    whole, parts = tree(tmp_path / "whole"), tree(tmp_path / "parts")
    assert {name: whole[name] for name in whole if "/" in name} == {name: parts[name] for name in parts if "/" in name}


def test_early_draws_save_passes_of_the_network(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    steered = Latent.steered
    monkeypatch.setattr(Latent, "steered", lambda self, specs, steer=None: asked.append(1) or steered(self, specs))
    recipe = parse(latent_body(tiny, count=6, shard=3, sampler={"num_inference_steps": 2, "batch": 2}))
    run(make_plan(recipe, tmp_path / "out"))
    assert len(asked) == 3  # six slots in batches of two; two shards alone would take four
