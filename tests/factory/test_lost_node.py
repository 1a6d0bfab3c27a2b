"""A machine of a Ray cluster may go while it works."""

from pathlib import Path
from typing import Any

import pytest

from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.recipe import parse
from tests.conftest import phantom_body, tree


def test_a_node_that_is_lost_costs_nothing_but_time(tmp_path: Path, phantom_dataset: Path) -> None:
    """Two nodes with a worker each; one goes while the run is under way, and its shards are made by the other."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        lost: list[Any] = []

        def lose(result: Any) -> None:
            if not lost:
                lost.append(node)
                cluster.remove_node(node, allow_graceful=False)

        options = {"workers": 2, "address": cluster.address}
        plan = make_plan(parse(phantom_body(shard=1)), tmp_path / "d")
        summary = run(plan, engine="ray", engine_options=options, on_shard=lose)
    finally:
        cluster.shutdown()
    assert lost
    assert (summary.failed, summary.kept) == ([], 6)
    made, whole = tree(tmp_path / "d"), tree(phantom_dataset)
    images, wanted = (sorted(data for name, data in one.items() if name.startswith("images/")) for one in (made, whole))
    assert images == wanted
