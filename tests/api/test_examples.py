"""The examples in the documentation of the Python interface run, and give what they say."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import pytest

from cxrsynth.api import annotation, conversion, dataset, generation, image

MODULES = [dataset, generation, image, annotation, conversion]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_examples_in_docstrings_run(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
