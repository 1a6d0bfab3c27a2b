"""Every engine makes the same bytes and passes on what the user has to fix."""

import shutil
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


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_makes_the_same_bytes(engine: str, tmp_path: Path, phantom_dataset: Path) -> None:
    summary = run(make_plan(parse(phantom_body()), tmp_path / "d"), engine=engine, engine_options={"workers": 2})
    assert summary.failed == []
    assert tree(tmp_path / "d") == tree(phantom_dataset)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_completes_a_damaged_dataset(engine: str, tmp_path: Path, phantom_dataset: Path) -> None:
    shutil.copytree(phantom_dataset, tmp_path / "d")
    Store(tmp_path / "d").receipt_path(1).unlink()
    assert run(make_plan(parse(phantom_body()), tmp_path / "d"), engine=engine).shards_made == 1
    assert tree(tmp_path / "d") == tree(phantom_dataset)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_passes_on_an_error_of_the_user(engine: str, tmp_path: Path) -> None:
    from cxrsynth.errors import CxrError

    body: dict[str, Any] = phantom_body(classes=[{"name": "spleen", "id": 1, "phrase": "spleen"}])
    with pytest.raises(CxrError, match="spleen"):
        run(make_plan(parse(body), tmp_path / "d"), engine=engine)
