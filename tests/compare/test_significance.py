"""Paired statistics on figures whose answers are known."""

from typing import Any

import numpy as np
import pytest

from cxrsynth.compare.significance import Estimate, Table, difference, equivalent, holm, ratio, significance, wilcoxon


def figures(values: list[float | None], patients: list[str] | None = None) -> dict[str, Any]:
    images = [
        {
            "key": str(i),
            "patient": (patients or [f"p{j}" for j in range(len(values))])[i],
            "scores": {"lung": {"dice": v}},
        }
        for i, v in enumerate(values)
    ]
    return {"unit": "px", "images": images}


def estimates(**arms: list[list[float | None]]) -> dict[str, Estimate]:
    table = Table({name: [figures(run) for run in runs] for name, runs in arms.items()})
    found = {name: table.estimate(name, "lung", "dice") for name in arms}
    return {name: one for name, one in found.items() if one is not None}


def constant(value: float) -> Estimate:
    return Estimate(value, np.full(2000, value), np.array([value]), 1)


def test_a_constant_gain_has_no_spread_however_images_differ() -> None:
    low = list(np.linspace(0.3, 0.8, 20))
    one = estimates(a=[[v + 0.1 for v in low]], b=[low])
    value, least, most = difference(one["a"], one["b"])
    assert (value, least, most) == pytest.approx((0.1, 0.1, 0.1))
    _, wide_low, wide_high = one["a"].interval
    assert wide_high - wide_low > 0.1


def test_the_spread_of_seeds_is_in_the_interval() -> None:
    one = estimates(alike=[[0.7] * 10, [0.7] * 10], apart=[[0.6] * 10, [0.8] * 10])
    assert one["alike"].interval == pytest.approx((0.7, 0.7, 0.7))
    assert one["apart"].interval == pytest.approx((0.7, 0.6, 0.8))


def test_images_that_do_not_count_are_left_out() -> None:
    one = estimates(a=[[0.5, None, 0.7]])
    assert one["a"].value == pytest.approx(0.6)
    assert one["a"].n == 2


def test_an_arm_in_which_nothing_counts_has_no_estimate() -> None:
    assert estimates(a=[[None, None]]) == {}


def test_the_ratio_to_nothing_is_not_given() -> None:
    assert ratio(constant(0.5), constant(0.0)) is None
    assert ratio(constant(0.5), constant(0.25)) == pytest.approx((2.0, 2.0, 2.0))


def test_a_steady_gain_is_significant_and_no_gain_is_not() -> None:
    low = list(np.linspace(0.3, 0.8, 20))
    one = estimates(a=[[v + 0.01 for v in low]], b=[low], c=[low])
    assert wilcoxon(one["a"], one["b"]) < 0.001
    assert wilcoxon(one["b"], one["c"]) == 1.0


@pytest.mark.parametrize("below", [0, 1, 20, 49, 60, 300, 1000])
def test_p_and_interval_tell_one_story(below: int) -> None:
    draws = np.concatenate([np.linspace(-0.2, -0.1, below), np.linspace(0.1, 0.2, 2000 - below)])
    one = Estimate(0.1, draws, np.array([0.1]), 1)
    _, low, high = difference(one, constant(0.0))
    assert (significance(one, constant(0.0)) < 0.05) == (low > 0 or high < 0)


def test_a_gain_of_one_lucky_training_is_not_significant() -> None:
    low = list(np.linspace(0.3, 0.8, 20))
    one = estimates(a=[[v + 0.02 for v in low], [v - 0.016 for v in low]], b=[low, low])
    assert wilcoxon(one["a"], one["b"]) < 0.001  # takes the two trainings for all there are
    assert significance(one["a"], one["b"]) > 0.05
    assert significance(one["b"], one["b"]) == 1.0


def test_holm_multiplies_the_smallest_most_and_never_falls() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_real_equivalents_are_read_from_the_curve_on_a_logarithmic_scale() -> None:
    curve = [constant(0.6), constant(0.8)]
    figures, sign = equivalent([10, 1000], curve, constant(0.7))
    assert figures == pytest.approx((100, 100, 100))
    assert sign == "="


@pytest.mark.parametrize(("value", "sign", "end"), [(0.5, "<", 10), (0.9, ">", 1000)])
def test_outside_the_curve_its_end_is_given_with_a_sign(value: float, sign: str, end: float) -> None:
    found, said = equivalent([10, 1000], [constant(0.6), constant(0.8)], constant(value))
    assert said == sign
    assert found[0] == pytest.approx(end)


def test_a_curve_that_falls_is_made_monotone() -> None:
    curve = [constant(0.6), constant(0.5), constant(0.8)]
    found, _ = equivalent([10, 100, 1000], curve, constant(0.7))
    assert 10 < found[0] < 1000
