"""A dataset can be labelled again from its stored maps."""

from pathlib import Path

import pytest

from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.factory.relabel import plan_relabel, relabel
from cxrsynth.store import Store
from tests.conftest import tree


def again(dataset: Path, out: Path, *assignments: str) -> None:
    relabel(plan_relabel(dataset, out, None, list(assignments)), lambda amount: None)


def masks(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(root).items() if name.startswith("masks")}


def test_the_same_labelling_gives_the_same_masks(phantom_dataset: Path, tmp_path: Path) -> None:
    again(phantom_dataset, tmp_path / "d")
    assert masks(tmp_path / "d") == masks(phantom_dataset)


def test_another_chain_gives_other_masks_and_the_same_pictures(phantom_dataset: Path, tmp_path: Path) -> None:
    again(phantom_dataset, tmp_path / "d", "masks.refine=[]")
    assert masks(tmp_path / "d") != masks(phantom_dataset)
    pictures = [
        {n: d for n, d in tree(root).items() if n.startswith("images")} for root in (phantom_dataset, tmp_path / "d")
    ]
    assert pictures[0] == pictures[1]


def test_the_old_dataset_is_not_touched(phantom_dataset: Path, tmp_path: Path) -> None:
    before = tree(phantom_dataset)
    again(phantom_dataset, tmp_path / "d", "masks.refine=[]")
    assert tree(phantom_dataset) == before


def test_a_second_call_relabels_nothing(phantom_dataset: Path, tmp_path: Path) -> None:
    again(phantom_dataset, tmp_path / "d")
    assert plan_relabel(phantom_dataset, tmp_path / "d", None, []).todo == []


def test_what_the_new_checks_refuse_is_listed(phantom_dataset: Path, tmp_path: Path) -> None:
    again(phantom_dataset, tmp_path / "d", "curate.checks=[{use: area, ranges: {heart: [0.0, 0.0001]}}]")
    store = Store(tmp_path / "d")
    assert not list(store.rows())
    assert len(list(store.rejects())) == 6


def test_a_dataset_is_not_relabelled_in_place(phantom_dataset: Path) -> None:
    with pytest.raises(UsageError, match="what is read"):
        plan_relabel(phantom_dataset, phantom_dataset, None, [])


def test_another_labelling_in_the_same_folder_is_refused(phantom_dataset: Path, tmp_path: Path) -> None:
    again(phantom_dataset, tmp_path / "d")
    with pytest.raises(UsageError, match="holds another dataset"):
        plan_relabel(phantom_dataset, tmp_path / "d", None, ["masks.refine=[]"])


def test_a_typo_in_the_new_chain_is_said(phantom_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown refiner"):
        plan_relabel(phantom_dataset, tmp_path / "d", None, ["masks.refine=[crff]"])
