"""Short batches are filled with slots of the next shard, and nothing of it shows in a dataset."""

from pathlib import Path

import numpy as np
import pytest

from cxrsynth import registry
from cxrsynth.curate.check import BaseCheck
from cxrsynth.factory.batches import Spare, ahead, draws, shards_ahead
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.prompts import spec
from cxrsynth.factory.run import run
from cxrsynth.generate.sampler import Latent
from cxrsynth.recipe import parse
from cxrsynth.records import Draw, Sample, Spec, Verdict
from tests.conftest import latent_body, phantom_body, tree


class Counting:
    """Draws pictures that say which slot they are of, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def draw(self, specs: list[Spec]) -> list[Draw]:
        self.asked.append([one.index for one in specs])
        return [Draw(np.full((4, 4), one.index % 256, np.uint8), np.zeros((1, 1, 1), np.float32)) for one in specs]


class Third(BaseCheck):
    """Refuses about every third image, by its pixels."""

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        return Verdict(int(sample.image.sum()) % 3 > 0, "third")


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


def test_a_tenth_of_rejected_slots_costs_a_few_more_batches_than_a_tenth() -> None:
    """Forty shards of two batches each, made as a worker makes them; every tenth attempt is rejected."""
    recipe = parse(phantom_body(count=640, shard=16, sampler={"height": 64, "width": 64, "batch": 8}))
    generator, reject = Counting(), np.random.default_rng(0)
    made: dict[int, Draw] = {}
    for shard in range(recipe.shards):
        following = range(shard + 1, min(shard + 1 + shards_ahead(recipe), recipe.shards))
        later = [index for one in following for index in recipe.shard_indices(one)]
        spare = Spare(made, (spec(recipe, index) for index in later if index not in made))
        pending = list(recipe.shard_indices(shard))
        for attempt in range(3):
            for _ in draws([spec(recipe, index, attempt) for index in pending], generator, 8, spare):
                pass
            pending = [index for index in pending if reject.random() < 0.1]
        made = {index: draw for index, draw in {**made, **spare.kept}.items() if index in later}
    assert len(generator.asked) <= 1.15 * 80


def test_a_slot_that_fails_is_no_fault_of_the_shard_before() -> None:
    class Failing(Counting):
        def draw(self, specs: list[Spec]) -> list[Draw]:
            if any(one.index == 7 for one in specs):
                raise RuntimeError("the machine is on fire")
            return super().draw(specs)

    recipe = parse(phantom_body(count=12, shard=6, sampler={"height": 64, "width": 64, "batch": 4}))
    generator, spare = Failing(), Spare({}, (spec(recipe, index) for index in range(6, 12)))
    first = [one for group in draws([spec(recipe, i) for i in range(6)], generator, 4, spare) for one in group]
    assert [one.index for one, _ in first] == list(range(6))
    assert not spare.kept
    assert not ahead(generator, recipe, Spare({}, (spec(recipe, index) for index in range(6, 12))))
    with pytest.raises(RuntimeError):
        list(draws([spec(recipe, i) for i in range(6, 12)], generator, 4))


def test_a_worker_generates_ahead_while_it_waits_for_labels() -> None:
    recipe = parse(phantom_body(count=12, shard=4, sampler={"height": 64, "width": 64, "batch": 4}))
    generator, spare = Counting(), Spare({}, (spec(recipe, index) for index in range(4, 10)))
    assert ahead(generator, recipe, spare)
    assert list(spare.kept) == [4, 5, 6, 7]
    assert not ahead(generator, recipe, spare)  # two slots are no batch: they wait for a short one
    assert [one.index for one in spare.fill(4)] == [8, 9]


@pytest.mark.parametrize("shard", [1, 5])
def test_a_dataset_is_the_same_whatever_stood_beside_its_slots(
    tiny: Path, tmp_path: Path, shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards that are no multiple of the batch, in one run or one by one, with slots that are rejected."""
    monkeypatch.setitem(registry.BUILTIN["checks"], "third", "tests.factory.test_spare:Third")
    monkeypatch.setattr(registry, "table", registry.table.__wrapped__)
    curate = {"checks": ["third"], "attempts": 3}
    sampler = {"num_inference_steps": 2, "batch": 2}
    recipe = parse(latent_body(tiny, count=8, shard=shard, sampler=sampler, curate=curate))
    summary = run(make_plan(recipe, tmp_path / "whole"))
    assert 0 < sum(summary.rejected.values()) < 24
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
