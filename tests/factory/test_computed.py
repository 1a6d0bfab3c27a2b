"""A dataset is computed on one kind of device and in one precision, from its first shard to its last."""

from pathlib import Path

import pytest

from cxrsynth import device
from cxrsynth.encoding import dumps
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.factory.shard import ShardMaker
from cxrsynth.factory.verify import verify
from cxrsynth.recipe import Recipe, parse
from cxrsynth.store import Store
from tests.conftest import latent_body


def recipe_for(tiny: Path, **changes: object) -> Recipe:
    return parse(latent_body(tiny, count=4, shard=2, **changes))


def rewrite(store: Store, shard: int, **changes: object) -> None:
    """A receipt that says something else."""
    receipt = store.receipt(shard)
    assert receipt is not None
    store.receipt_path(shard).write_bytes(dumps({**receipt.as_json(), **changes}))


@pytest.fixture
def half_made(tiny: Path, tmp_path: Path) -> Store:
    """The first of two shards, in float32."""
    run(make_plan(recipe_for(tiny).model_copy(update={"count": 2}), tmp_path / "out"))
    return Store(tmp_path / "out")


def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = device.resolve("cpu")
    monkeypatch.setenv("CXRSYNTH_DTYPE", "auto")
    for has, name in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(device, "has_bfloat16", lambda has=has: has)
        assert str(device.precision("auto", cpu)) == f"torch.{name}"
        assert str(device.precision("float32", cpu)) == "torch.float32"
    monkeypatch.setenv("CXRSYNTH_DTYPE", "int8")
    with pytest.raises(UsageError, match="CXRSYNTH_DTYPE is 'int8'"):
        device.precision("auto", cpu)


def test_a_receipt_says_what_it_was_computed_with(half_made: Store) -> None:
    assert [one.computed for one in half_made.receipts()] == [{"device": "cpu", "dtype": "float32"}]


@pytest.mark.parametrize("said", [{"device": "cpu", "dtype": "float32"}, {}])
def test_a_dataset_goes_on_in_the_precision_it_was_begun_in(
    half_made: Store, tiny: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str]
) -> None:
    """Also one of a version that did not write it down."""
    rewrite(half_made, 0, computed=said)
    monkeypatch.setenv("CXRSYNTH_DTYPE", "bfloat16")
    run(make_plan(recipe_for(tiny), half_made.root))
    assert [one.computed.get("dtype") for one in half_made.receipts()] == [said.get("dtype"), "float32"]


def test_another_device_is_refused_before_an_image_is_generated(half_made: Store, tiny: Path) -> None:
    rewrite(half_made, 0, computed={"device": "cuda", "dtype": "float32"})
    plan = make_plan(recipe_for(tiny), half_made.root)
    with pytest.raises(MismatchError, match="begun on cuda in float32, here it would go on with cpu in float32"):
        run(plan)
    assert half_made.shards() == [0]


def test_verify_finds_shards_that_were_computed_in_two_ways(half_made: Store, tiny: Path) -> None:
    run(make_plan(recipe_for(tiny), half_made.root))
    rewrite(half_made, 1, computed={"device": "cuda", "dtype": "bfloat16"})
    assert "computed in more than one way: cpu in float32, cuda in bfloat16" in {
        one.what for one in verify(half_made.root)
    }


def test_a_worker_computes_in_bfloat16_when_asked(tiny: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny, sampler={"num_inference_steps": 2, "batch": 2, "dtype": "bfloat16"})
    maker = ShardMaker(make_plan(recipe, tmp_path / "out").job)
    assert maker.computed == {"device": "cpu", "dtype": "bfloat16"}
    maker.close()
