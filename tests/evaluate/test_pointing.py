"""The figures of grounding: perfect maps get everything, flat ones get chance, averted ones less."""

import numpy as np
import pytest

from cxrsynth.evaluate.pointing import METRICS, chance, figures

TARGET = np.zeros((20, 20), bool)
TARGET[4:9, 10:16] = True
WHOLE = np.ones((20, 20), bool)


def test_a_map_that_is_the_target_gets_everything() -> None:
    found = figures(TARGET.astype(float), TARGET, WHOLE)
    assert (found["pointing"], found["miou"], found["auroc"]) == (1, 1, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_a_flat_map_gets_what_chance_gets(metric: str) -> None:
    assert figures(np.ones((20, 20)), TARGET, WHOLE)[metric] == pytest.approx(chance(TARGET, WHOLE)[metric])


def test_a_map_that_looks_away_gets_less_than_chance() -> None:
    found = figures(1.0 - TARGET, TARGET, WHOLE)
    assert found["pointing"] == 0
    assert found["auroc"] == 0
    assert figures(np.random.default_rng(0).random((20, 20)) - TARGET, TARGET, WHOLE)["cnr"] < -1


def test_what_lies_outside_the_region_counts_for_nothing() -> None:
    region = np.zeros((20, 20), bool)
    region[:12] = True
    score = TARGET.astype(float)
    score[15, 3] = 9.0
    assert figures(score, TARGET, region) == figures(TARGET.astype(float), TARGET, region)
    assert chance(TARGET, region)["pointing"] == pytest.approx(30 / 240)


def test_several_highest_places_share_the_point() -> None:
    score = np.zeros((20, 20))
    score[5, 12] = score[0, 0] = 1.0
    assert figures(score, TARGET, WHOLE)["pointing"] == 0.5


def test_a_target_that_is_not_in_the_region_has_no_figures() -> None:
    found = figures(np.ones((20, 20)), TARGET, ~TARGET)
    assert all(np.isnan(value) for value in found.values())


def test_the_contrast_is_that_of_the_formula() -> None:
    score = np.random.default_rng(1).random((20, 20)) + 0.5 * TARGET
    inside, outside = score[TARGET], score[~TARGET]
    expected = (inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var())
    assert figures(score, TARGET, WHOLE)["cnr"] == pytest.approx(expected)
