"""The checks of a recipe, asked in order."""

from dataclasses import replace

import pytest

from cxrsynth import curate
from cxrsynth.errors import RecipeError
from tests.curate.chest import CLASSES, chest, without

ORDER = ("finite", "present", "area", "laterality", "border", "stability", "duplicate")
CHECKS = curate.build([{"use": name} for name in ORDER], list(CLASSES))


def test_a_good_sample_is_kept_with_the_scores_of_all_checks() -> None:
    verdict = curate.decide(replace(chest(), scores={"presence.heart": 0.7}), [chest(seed=1)], CHECKS)
    assert verdict.keep
    assert {"presence.heart", "contrast", "area.heart", "laterality.lungs", "border.sides", "duplicate"} <= set(
        verdict.scores
    )


def test_the_first_check_that_rejects_gives_the_reason() -> None:
    verdict = curate.decide(without(chest(swapped=True), "heart"), [], CHECKS)
    assert verdict.reason == "present.heart"
    assert "contrast" in verdict.scores
    assert "laterality.lungs" not in verdict.scores


def test_without_checks_everything_is_kept() -> None:
    assert curate.decide(chest(empty=True), [], []).keep


def test_an_unknown_check_is_an_error_that_names_the_right_ones() -> None:
    with pytest.raises(RecipeError, match=r"did you mean 'laterality'.*border, duplicate"):
        curate.build([{"use": "lateralty"}], list(CLASSES))


def test_an_unknown_class_in_a_check_is_an_error_that_names_the_right_ones() -> None:
    with pytest.raises(RecipeError, match="unknown class 'hart'") as caught:
        curate.build([{"use": "area", "ranges": {"hart": (0.1, 0.2)}}], list(CLASSES))
    assert "did you mean 'heart'" in caught.value.hint


@pytest.mark.parametrize("entry", [{"use": "laterality", "heart": "hart"}, {"use": "border", "classes": ["lung"]}])
def test_a_class_the_recipe_does_not_have_is_an_error(entry: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="unknown class"):
        curate.build([entry], list(CLASSES))
