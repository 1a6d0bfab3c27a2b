"""Every engine makes the same bytes and passes on what the user has to fix."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxrsynth import registry
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.recipe import parse
from cxrsynth.store import Store
from tests.conftest import phantom_body, tree

ENGINES = registry.names("engines")


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, dict[str, Any]]]:
    """Engine -> its options; one small Ray cluster serves all tests, since starting one takes longer than they do."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield {"ray": {"address": cluster.address}}
    cluster.shutdown()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_makes_the_same_bytes(engine: str, options: Any, tmp_path: Path, phantom_dataset: Path) -> None:
    two = {**options.get(engine, {}), "workers": 2}
    summary = run(make_plan(parse(phantom_body()), tmp_path / "d"), engine=engine, engine_options=two)
    assert summary.failed == []
    assert tree(tmp_path / "d") == tree(phantom_dataset)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_completes_a_damaged_dataset(
    engine: str, options: Any, tmp_path: Path, phantom_dataset: Path
) -> None:
    shutil.copytree(phantom_dataset, tmp_path / "d")
    Store(tmp_path / "d").receipt_path(1).unlink()
    plan = make_plan(parse(phantom_body()), tmp_path / "d")
    assert run(plan, engine=engine, engine_options=options.get(engine, {})).shards_made == 1
    assert tree(tmp_path / "d") == tree(phantom_dataset)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_passes_on_an_error_of_the_user(engine: str, options: Any, tmp_path: Path) -> None:
    from cxrsynth.errors import CxrError

    body: dict[str, Any] = phantom_body(classes=[{"name": "spleen", "id": 1, "phrase": "spleen"}])
    with pytest.raises(CxrError, match="spleen"):
        run(make_plan(parse(body), tmp_path / "d"), engine=engine, engine_options=options.get(engine, {}))
