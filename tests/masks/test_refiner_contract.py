"""What every registered refiner has to keep to; a new one is tested by being registered."""

import pickle

import numpy as np
import pytest

from cxrsynth import registry
from cxrsynth.auxiliary_files import auxiliary_file, read_name
from cxrsynth.errors import RecipeError
from cxrsynth.masks import chain
from cxrsynth.masks.refiner import Sighted
from cxrsynth.records import Asked, Refiner

NAMES = registry.names("refiners")
LUNGS = ["right_lung", "left_lung", "heart"]
SIZE = (48, 40)


def refiner(name: str, classes: list[str] | None = None, overlap: tuple[str, ...] = ()) -> Refiner:
    built = chain.build([{"use": name}], LUNGS if classes is None else classes, overlap)[0]
    return built.given(reads(built.asks)) if isinstance(built, Sighted) else built


def reads(asked: Asked) -> dict[str, np.ndarray]:
    """Answers to what a refiner asks: each place looks at its neighbours, and a mask head that sees three blobs."""
    places = np.stack(np.mgrid[:6, :5], axis=-1).reshape(-1, 2)
    near = np.exp(-np.abs(places[:, None] - places).sum(axis=-1))
    near /= near.sum(axis=1, keepdims=True)
    found = {f"self_{level}": near.reshape(6, 5, 6, 5).astype(np.float16) for level in asked.levels}
    for name in asked.heads:
        found[read_name(auxiliary_file(name, "head"))] = probabilities(3)[:, ::2, ::2].astype(np.float16)
    return found


def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.normal(170, 10, SIZE)
    image[8:38, 4:16] -= 110
    image[8:38, 24:36] -= 110
    return image.clip(0, 255).astype(np.uint8)


def probabilities(count: int) -> np.ndarray:
    """Blobs side by side, each class likely in its own; with the background they sum to 1."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    scores = [np.exp(-(((rows - 24) / 12) ** 2 + ((columns - 4 - 32 * k / count) / 6) ** 2)) for k in range(count)]
    total = np.sum(scores, axis=0) + 0.3
    return (np.stack(scores) / total).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 3, 20])
def test_shape_type_and_range_are_kept_for_any_number_of_classes(name: str, count: int) -> None:
    classes = [f"class_{k}" for k in range(count)] if count != 3 else LUNGS
    refined = refiner(name, classes)(picture(), probabilities(count))
    assert refined.shape == (count, *SIZE)
    assert refined.dtype == np.float32
    assert np.isfinite(refined).all()
    assert refined.min() >= 0
    assert refined.sum(axis=0).max() <= 1 + 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_same_input_gives_the_same_bits(name: str) -> None:
    one, two = (refiner(name)(picture(), probabilities(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_left_alone(name: str) -> None:
    image, prob = picture(), probabilities(3)
    refiner(name)(image, prob)
    np.testing.assert_array_equal(prob, probabilities(3))
    np.testing.assert_array_equal(image, picture())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_of_nothing(name: str) -> None:
    refined = refiner(name)(picture(), np.zeros((3, *SIZE), np.float32))
    assert refined.max() < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_fills_the_picture_is_no_error(name: str) -> None:
    full = np.zeros((3, *SIZE), np.float32)
    full[0] = 1.0
    assert np.isfinite(refiner(name)(picture(), full)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_picture_is_no_error(name: str) -> None:
    refined = refiner(name)(np.full(SIZE, 128, np.uint8), probabilities(3))
    assert np.isfinite(refined).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_overlapping_class_takes_nothing_from_what_lies_beneath(name: str) -> None:
    beneath = probabilities(3)
    with_opacity = np.concatenate([beneath, beneath[:1] * 0.9])
    refined = refiner(name, [*LUNGS, "opacity"], ("opacity",))(picture(), with_opacity)
    np.testing.assert_allclose(refined[:3], refiner(name)(picture(), beneath), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_it_travels_to_another_process(name: str) -> None:
    built = refiner(name)
    copy = pickle.loads(pickle.dumps(built))
    np.testing.assert_array_equal(copy(picture(), probabilities(3)), built(picture(), probabilities(3)))


@pytest.mark.parametrize("name", NAMES)
def test_a_typo_in_a_parameter_is_an_error_that_names_the_right_ones(name: str) -> None:
    fields = list(registry.load("refiners", name).model_fields)
    with pytest.raises(RecipeError) as caught:
        chain.build([{"use": name, fields[0] + "x": 1}], LUNGS)
    assert all(field in caught.value.message for field in fields)


@pytest.mark.parametrize("name", NAMES)
def test_its_parameters_go_through_json_and_back(name: str) -> None:
    kind = registry.load("refiners", name)
    assert kind.model_validate_json(kind().model_dump_json()) == kind()
