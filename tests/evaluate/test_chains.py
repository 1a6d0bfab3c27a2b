"""Chains are compared on the same maps, image by image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cxrsynth.errors import RecipeError
from cxrsynth.evaluate.chains import best, load_chains, load_pairs, measure, records

CHAINS = {"raw": {"refine": []}, "blind": {"normalise": {"use": "joint", "presence": 1.0}, "refine": []}}


def chains(tmp_path: Path, body: dict[str, Any]) -> Path:
    path = tmp_path / "chains.yaml"
    path.write_text(yaml.safe_dump({"chains": body}, sort_keys=False))
    return path


def test_a_chain_that_sees_nothing_scores_nothing(phantom_dataset: Path, tmp_path: Path) -> None:
    loaded = load_chains(chains(tmp_path, CHAINS), phantom_dataset)
    measured, patients = measure(phantom_dataset, phantom_dataset, loaded)
    found = records(measured, patients, "phantom")
    figures = {(one["arm"], one["class"], one["metric"]): one for one in found}
    assert figures["raw", "heart", "dice"]["value"] > 0.9
    assert figures["blind", "heart", "dice"]["value"] == 0
    difference = figures["blind - raw", "heart", "dice_difference"]
    assert difference["value"] == pytest.approx(-figures["raw", "heart", "dice"]["value"])
    assert difference["lo"] <= difference["value"] <= difference["hi"] < 0
    assert best(found) == "raw"


def test_a_pair_that_is_asked_for_is_told_the_first_minus_the_second(phantom_dataset: Path, tmp_path: Path) -> None:
    path = chains(tmp_path, {**CHAINS, "half": {"refine": ["adaptive"]}})
    measured, patients = measure(phantom_dataset, phantom_dataset, load_chains(path, phantom_dataset))
    asked = records(measured, patients, "phantom", [("blind", "half")])
    figures = {(one["arm"], one["class"]): one["value"] for one in asked if one["metric"] == "dice_difference"}
    dice = {one["arm"]: one["value"] for one in asked if (one["metric"], one["class"]) == ("dice", "heart")}
    assert figures["blind - half", "heart"] == pytest.approx(dice["blind"] - dice["half"], abs=1e-4)
    unasked = {one["arm"] for one in records(measured, patients, "phantom")}
    assert {one["arm"] for one in asked} - unasked == {"blind - half"}


@pytest.mark.parametrize("pair", [["raw"], ["raw", "bliind"], "raw"])
def test_a_pair_that_is_none_is_an_error_that_lists_the_chains(pair: Any, tmp_path: Path) -> None:
    path = tmp_path / "chains.yaml"
    path.write_text(yaml.safe_dump({"chains": CHAINS, "pairs": [pair]}, sort_keys=False))
    with pytest.raises(RecipeError) as caught:
        load_pairs(path)
    assert "raw, blind" in caught.value.hint


def test_every_image_counts_once_in_every_chain(phantom_dataset: Path, tmp_path: Path) -> None:
    loaded = load_chains(chains(tmp_path, CHAINS), phantom_dataset)
    seen: list[int] = []
    measured, patients = measure(
        phantom_dataset, phantom_dataset, loaded, on_image=lambda done, total, _: seen.append(done)
    )
    assert seen == list(range(1, 13))
    assert [len(one.images) for one in measured.values()] == [6, 6]
    assert len(patients) == 6
    assert all((one.seconds > 0).all() and np.isfinite(one.seconds).all() for one in measured.values())


def test_a_typo_in_a_chain_is_an_error_that_names_the_chain(phantom_dataset: Path, tmp_path: Path) -> None:
    path = chains(tmp_path, {"broken": {"refine": [{"use": "crf", "iteration": 5}]}})
    with pytest.raises(RecipeError, match="broken"):
        load_chains(path, phantom_dataset)


def test_the_bundled_chains_are_chains(phantom_dataset: Path) -> None:
    path = Path(__file__).parents[2] / "recipes/bench/masks.yaml"
    assert "raw" in load_chains(path, phantom_dataset)
    assert ("cross", "sequential") in load_pairs(path)
