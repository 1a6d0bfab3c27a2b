"""Simulated findings: what is put in is where the mask is, is what the words say, and is the same every time."""

import numpy as np
import pytest

from cxrsynth.data.findings import FINDINGS, KIND_OF, NO_FINDING, CannotCarryError, simulate
from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.errors import UsageError
from tests import anatomies


@pytest.fixture(scope="module")
def chest() -> tuple[np.ndarray, np.ndarray]:
    return anatomies.pictured()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", FINDINGS)
def test_every_finding_changes_the_image_where_its_mask_is(name: str, chest: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = chest
    made = simulate(image, labels, rng(3), [name])
    plain = simulate(image, labels, rng(3), [])
    change = np.abs(made.image.astype(float) - plain.image)
    mask = made.masks[name]
    assert mask.any()
    if name != "cardiomegaly":  # that one moves tissue, so its middle stays as it was
        assert change[mask].mean() > 3 * change[~mask].mean()


@pytest.mark.parametrize("name", [name for name in FINDINGS if name != "cardiomegaly"])
def test_findings_of_the_lung_stay_within_it(name: str, chest: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = chest
    lungs = np.isin(labels, [CLASSES["right_lung"], CLASSES["left_lung"]])
    assert not (simulate(image, labels, rng(5), [name]).masks[name] & ~lungs).any()


def test_the_same_seed_gives_the_same_image(chest: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = (simulate(*chest, rng(11)) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert first.words == second.words


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", [name for name in FINDINGS if name != "cardiomegaly"])
def test_words_and_mask_are_on_the_side_that_was_asked_for(
    name: str, side: str, chest: tuple[np.ndarray, np.ndarray]
) -> None:
    image, labels = chest
    made = simulate(image, labels, rng(1), [name], {name: {"side": side}})
    other = "left" if side == "right" else "right"
    assert side in made.words
    assert other not in made.words
    assert not (made.masks[name] & (labels == CLASSES[f"{other}_lung"])).any()


def test_an_enlarged_heart_has_the_ratio_that_its_facts_say(chest: tuple[np.ndarray, np.ndarray]) -> None:
    made = simulate(*chest, rng(2), ["cardiomegaly"])
    assert made.facts["cardiomegaly"]["ratio"] >= 0.5
    assert cardiothoracic(made.labels) == pytest.approx(made.facts["cardiomegaly"]["ratio"], abs=1e-3)


@pytest.mark.parametrize("name", KIND_OF)
def test_a_mask_counts_for_the_more_general_kind_too(name: str, chest: tuple[np.ndarray, np.ndarray]) -> None:
    made = simulate(*chest, rng(4), [name])
    assert np.array_equal(made.masks[name], made.masks[KIND_OF[name]])


def test_nothing_put_in_is_said_to_be_no_finding(chest: tuple[np.ndarray, np.ndarray]) -> None:
    made = simulate(*chest, rng(6), [])
    assert made.words == NO_FINDING
    assert made.masks == {}
    assert np.abs(made.image.astype(float) - chest[0]).mean() < 4


def test_what_is_called_bilateral_is_on_both_sides(chest: tuple[np.ndarray, np.ndarray]) -> None:
    settings = {"ground_glass": {"pattern": "bilateral"}}
    for seed in range(6):
        made = simulate(*chest, rng(seed), ["ground_glass"], settings)
        both = len(made.facts["ground_glass"]["zones"]) == 2
        assert both == (made.facts["ground_glass"]["pattern"] == "bilateral")
        assert both or "bilateral" not in made.words


def test_an_unknown_finding_is_refused_with_the_right_names() -> None:
    flat = np.zeros((64, 64), np.uint8)
    with pytest.raises(UsageError, match="efusion") as caught:
        simulate(flat, flat, rng(), ["efusion"])
    assert "did you mean 'effusion'" in caught.value.hint


def test_two_findings_that_exclude_each_other_are_refused(chest: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        simulate(*chest, rng(), ["effusion", "pneumothorax"])


def test_a_finding_needs_the_lung_it_is_asked_for_in(chest: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = chest
    one = np.where(labels == CLASSES["left_lung"], 0, labels)
    with pytest.raises(CannotCarryError, match="left lung"):
        simulate(image, one, rng(), ["nodule"], {"nodule": {"side": "left"}})


def test_an_enlarged_heart_is_not_enlarged_again(chest: tuple[np.ndarray, np.ndarray]) -> None:
    made = simulate(*chest, rng(2), ["cardiomegaly"])
    with pytest.raises(CannotCarryError, match="already"):
        simulate(made.image, made.labels, rng(2), ["cardiomegaly"])


def test_an_image_without_contrast_carries_nothing(chest: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = chest
    flat = (110 + 0.1 * image).astype(np.uint8)
    with pytest.raises(CannotCarryError, match="equally bright"):
        simulate(flat, labels, rng(), ["opacity"])
    assert simulate(flat, labels, rng(1), none=0.0, shares={"opacity": 1.0}).masks == {}
