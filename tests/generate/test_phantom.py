"""The generated chest follows its prompt, and its masks are exact."""

import json
import subprocess
import sys

import numpy as np
import pytest

from cxrsynth.errors import UsageError
from cxrsynth.generate.phantom import Phantom
from cxrsynth.generate.phantom.findings import Place, read
from cxrsynth.recipe import parse
from cxrsynth.records import Draw, Spec
from tests.conftest import phantom_body

CLASSES = ["right_lung", "left_lung", "heart", "opacity", "effusion", "cardiomegaly"]
SEEDS = range(6)


def spec(prompt: str, seed: int = 0, classes: list[str] | None = None) -> Spec:
    names = CLASSES if classes is None else classes
    return Spec(seed, f"{seed:09d}", prompt, "", {name: name for name in names}, {}, seed, "train")


def draw(prompt: str, seed: int = 0, size: tuple[int, int] = (128, 128)) -> Draw:
    return Phantom(height=size[0], width=size[1]).draw([spec(prompt, seed)])[0]


def control(drawn: Draw, name: str) -> np.ndarray:
    assert drawn.control is not None
    return drawn.control[CLASSES.index(name)]


def width(mask: np.ndarray) -> int:
    return int(np.ptp(np.flatnonzero(mask.any(axis=0)))) + 1


def middle(mask: np.ndarray, axis: int) -> float:
    """Centroid along an axis, 0..1."""
    return float(np.nonzero(mask)[axis].mean() / mask.shape[axis])


def ratio(drawn: Draw) -> float:
    """Cardiothoracic ratio."""
    return width(control(drawn, "heart")) / width(control(drawn, "right_lung") | control(drawn, "left_lung"))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_heart_is_wider_than_half_the_chest_only_in_cardiomegaly(seed: int) -> None:
    assert ratio(draw("normal heart size", seed)) < 0.5 < ratio(draw("cardiomegaly", seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_right_lung_is_on_the_left_of_the_picture(seed: int) -> None:
    drawn = draw("normal chest", seed)
    right, left = (middle(control(drawn, name), 1) for name in ("right_lung", "left_lung"))
    assert right < 0.4 < 0.6 < left


@pytest.mark.parametrize("seed", SEEDS)
def test_lungs_are_darker_than_the_heart_and_what_is_around(seed: int) -> None:
    drawn = draw("normal chest", seed)
    lungs = control(drawn, "right_lung") | control(drawn, "left_lung")
    heart = control(drawn, "heart")
    assert drawn.image[lungs].mean() + 60 < drawn.image[heart].mean()
    assert not (lungs & heart).any()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("seed", SEEDS)
def test_fluid_lies_at_the_bottom_of_its_side(side: str, seed: int) -> None:
    drawn = draw(f"pleural effusion on the {side}", seed)
    fluid, lung = control(drawn, "effusion"), control(drawn, f"{side}_lung")
    assert fluid.any()
    assert not (fluid & ~lung).any()
    assert middle(fluid, 0) > middle(lung, 0)
    assert drawn.image[fluid].mean() > drawn.image[lung & ~fluid].mean() + 40


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("zone", "bounds"), [("upper", (0.15, 0.40)), ("mid", (0.33, 0.55)), ("lower", (0.45, 0.75))])
def test_an_opacity_lies_where_the_prompt_says(side: str, zone: str, bounds: tuple[float, float]) -> None:
    drawn = draw(f"opacity in the {side} {zone} zone", 3)
    patch, lung = control(drawn, "opacity"), control(drawn, f"{side}_lung")
    assert patch.any()
    assert not (patch & ~lung).any()
    assert bounds[0] < middle(patch, 0) < bounds[1]
    assert drawn.image[patch].mean() > drawn.image[lung & ~patch].mean() + 15


def test_bilateral_pneumonia_is_on_both_sides() -> None:
    drawn = draw("bilateral pneumonia")
    assert all((control(drawn, "opacity") & control(drawn, f"{side}_lung")).any() for side in ("right", "left"))


@pytest.mark.parametrize(
    "prompt", ["normal chest", "no effusion or opacity", "without cardiomegaly", "no acute findings"]
)
def test_findings_that_are_not_asserted_are_not_drawn(prompt: str) -> None:
    assert not any(control(draw(prompt), name).any() for name in ("opacity", "effusion", "cardiomegaly"))


def test_a_child_has_smaller_lungs() -> None:
    child, adult = draw("child"), draw("adult")
    assert control(child, "right_lung").sum() < 0.9 * control(adult, "right_lung").sum()


def test_ap_has_less_contrast_than_pa() -> None:
    assert draw("AP view").image.std() < draw("PA view").image.std()


def test_a_picture_depends_on_its_spec_and_not_on_the_batch() -> None:
    phantom = Phantom(height=64, width=64)
    alone, together = phantom.draw([spec("AP", 5)])[0], phantom.draw([spec("child", 4), spec("AP", 5)])[1]
    for name in ("image", "maps", "control"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))


def test_another_seed_gives_another_chest() -> None:
    assert (control(draw("normal", 1), "right_lung") != control(draw("normal", 2), "right_lung")).any()


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (257, 255)])
def test_shapes_and_types(size: tuple[int, int]) -> None:
    drawn = draw("cardiomegaly, bilateral effusion", size=size)
    assert drawn.control is not None
    assert (drawn.image.shape, drawn.image.dtype) == (size, np.uint8)
    assert (drawn.control.shape, drawn.control.dtype) == ((6, *size), np.bool_)
    assert (drawn.maps.shape, drawn.maps.dtype) == ((6, size[0] // 8, size[1] // 8), np.float32)
    assert drawn.maps.min() >= 0


def test_masks_come_in_the_order_of_the_phrases() -> None:
    drawn = Phantom(height=64, width=64).draw([spec("normal", classes=["heart", "right_lung"])])[0]
    assert drawn.control is not None
    assert middle(drawn.control[0], 1) > middle(drawn.control[1], 1)


def test_maps_say_where_a_class_is_and_little_where_it_is_not() -> None:
    drawn = draw("normal chest")
    assert drawn.maps[0].max() > 0.4
    assert drawn.maps[CLASSES.index("opacity")].max() < 0.15


def test_a_class_without_a_mask_is_an_error_that_names_those_with_one() -> None:
    with pytest.raises(UsageError, match="spleen") as caught:
        Phantom().draw([spec("normal", classes=["spleen"])])
    assert "right_lung" in caught.value.hint


def test_a_recipe_gives_the_size_and_hears_of_progress() -> None:
    heard = []
    phantom = Phantom.from_recipe(parse(phantom_body()), None, "cpu", lambda step, steps: heard.append((step, steps)))
    assert phantom.draw([spec("normal")])[0].image.shape == (128, 128)
    assert heard == [(1, 1)]


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(ValueError, match="heigth"):
        Phantom(heigth=64)  # type: ignore[call-arg]


def test_borders_of_the_masks_have_no_long_steps() -> None:
    """The outer border of a lung moves by little from row to row where it is steep."""
    mask = draw("normal chest", size=(256, 256)).control[0]  # type: ignore[index]
    rows = np.flatnonzero(mask.sum(axis=1) > 20)[20:-40]
    outer = mask[rows].argmax(axis=1)
    assert np.abs(np.diff(outer)).max() <= 2


@pytest.mark.parametrize(
    ("prompt", "place"),
    [
        ("pneumonia in the right lower zone and clear left lung", Place("right", "lower")),
        ("left-sided effusion, right upper lobe opacity", Place("right", "upper")),
        ("opacity, right lung, left lung, heart", Place(None, None)),
        ("Consolidation in the LEFT mid zone.", Place("left", "mid")),
    ],
)
def test_side_and_zone_come_from_the_clause_of_the_finding(prompt: str, place: Place) -> None:
    assert read(prompt).opacities == (place,)


def test_ap_is_a_word_of_its_own() -> None:
    assert read("frontal chest x-ray, AP view").ap
    assert not read("apical capping").ap


def test_denial_reaches_to_the_end_of_its_clause() -> None:
    found = read("no effusion or pneumonia, cardiomegaly")
    assert (found.effusions, found.opacities, found.cardiomegaly) == ((), (), True)
    assert read("cardiomegaly without effusion").cardiomegaly


def test_drawing_needs_no_torch() -> None:
    code = "import sys, json, cxrsynth.generate.phantom; print(json.dumps('torch' in sys.modules))"
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) is False


def test_the_source_of_a_mask_is_a_smooth_distance_so_that_sizes_agree() -> None:
    """The same chest at twice the size has the same shape."""
    small, big = (Phantom(height=n, width=n)._draw(spec("normal chest")).control for n in (128, 256))
    assert small is not None
    assert big is not None
    assert (big[:3, ::2, ::2] != small[:3]).mean() < 0.02
