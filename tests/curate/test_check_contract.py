"""What every registered check has to keep to; a new one is tested by being registered."""

import pickle
import re

import numpy as np
import pytest

from cxrsynth import curate, registry
from cxrsynth.errors import RecipeError
from cxrsynth.records import Check, Sample, Verdict
from tests.curate.chest import CLASSES, chest

NAMES = registry.names("checks")


def check(name: str, classes: list[str] | None = None) -> Check:
    return curate.build([{"use": name}], list(CLASSES) if classes is None else classes)[0]


def ask(name: str, sample: Sample, kept: list[Sample] | None = None) -> Verdict:
    return check(name)(sample, kept or [])


@pytest.mark.parametrize("name", NAMES)
def test_a_good_sample_is_kept(name: str) -> None:
    assert ask(name, chest(), [chest(seed=1)]).keep


@pytest.mark.parametrize("name", NAMES)
def test_the_same_sample_gets_the_same_verdict(name: str) -> None:
    assert ask(name, chest(), [chest(seed=1)]) == ask(name, chest(), [chest(seed=1)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sample", [chest(empty=True), chest(constant=True), chest(swapped=True), chest(finite=False)])
def test_a_rejection_has_a_machine_readable_reason(name: str, sample: Sample) -> None:
    verdict = ask(name, sample, [sample])
    assert verdict.keep is (verdict.reason == "")
    assert verdict.keep or re.fullmatch(rf"{name}(\.[a-z_]+)+", verdict.reason)
    assert all(isinstance(value, float) and np.isfinite(value) for value in verdict.scores.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 20])
def test_any_number_of_classes_is_judged(name: str, count: int) -> None:
    classes = {f"class_{k}": k + 1 for k in range(count)}
    layers = np.zeros((count, 64, 64), bool)
    layers[:, 20:40, 20:40] = True
    sample = Sample(chest().image, layers[0].astype(np.uint8), layers.astype(np.float32), layers, classes)
    assert isinstance(check(name, list(classes))(sample, []), Verdict)


@pytest.mark.parametrize("name", NAMES)
def test_it_travels_to_another_process(name: str) -> None:
    built = check(name)
    assert pickle.loads(pickle.dumps(built))(chest(), []) == built(chest(), [])


@pytest.mark.parametrize("name", NAMES)
def test_a_typo_in_a_parameter_is_an_error_that_names_the_right_ones(name: str) -> None:
    fields = list(registry.load("checks", name).model_fields)
    with pytest.raises(RecipeError) as caught:
        curate.build([{"use": name, fields[0] + "x": 1}], list(CLASSES))
    assert all(field in caught.value.message for field in fields)


@pytest.mark.parametrize("name", NAMES)
def test_its_parameters_go_through_json_and_back(name: str) -> None:
    kind = registry.load("checks", name)
    assert kind.model_validate_json(kind().model_dump_json()) == kind()


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_entry_suits_a_recipe_with_other_classes(name: str) -> None:
    from cxrsynth.recipe import resolve_entry

    assert curate.build([resolve_entry("checks", name)], ["clavicles"])
