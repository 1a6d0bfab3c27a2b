"""A finding's place is where an image that has it is brighter than normal images of its source, and nowhere else."""

from typing import Any

import numpy as np
import pytest

from cxrsynth.data.places import Place, brightness, find, said_sides, zones
from cxrsynth.domain import regions
from cxrsynth.errors import UsageError
from cxrsynth.train.tasks.pathology.config import PathologyConfig
from tests.train.chests import chest

# Six normal images tell their spread roughly; a filled zone lies far beyond it.
TUBERCULOSIS = PathologyConfig(
    findings={"tuberculosis": ("tuberculosis",)}, places={"tuberculosis": ("upper zone",)}, bright=10.0
)


def row(findings: str, **more: Any) -> dict[str, Any]:
    return {"findings": findings, "prompt": "Frontal chest X-ray.", "source": "clinic", **more}


def clinic(sick: str | None, region: str = "right upper zone") -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    """Six normal images and one that is bright in a region."""
    pairs = [chest(number) for number in range(7)]
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    images[6][regions.resolve(region, masks[6])] = 180
    return [row("normal") for _ in range(6)] + [row(sick or "normal")], images, masks


def test_the_bright_zone_of_a_sick_image_is_the_place() -> None:
    places = find(*clinic("tuberculosis"), TUBERCULOSIS)
    assert [place for place in places if place.finding] == [Place(6, "tuberculosis", "right upper zone")]


def test_a_bright_zone_where_the_finding_does_not_occur_is_no_place() -> None:
    config = TUBERCULOSIS.model_copy(update={"places": {"tuberculosis": ("upper zone", "lower zone")}})
    found = {place.region for place in find(*clinic("tuberculosis", "left lower zone"), config) if place.finding}
    assert found == {"left lower zone"}
    with pytest.raises(UsageError, match="no training image shows tuberculosis in a zone that is brighter"):
        find(*clinic("tuberculosis", "left lower zone"), TUBERCULOSIS)


def test_a_bright_zone_of_a_normal_image_is_not_clear() -> None:
    rows, images, masks = clinic("tuberculosis")
    images[0][regions.resolve("left upper zone", masks[0])] = 180
    clear = {place.region for place in find(rows, images, masks, TUBERCULOSIS) if place.image == 0}
    assert "left upper zone" not in clear


def test_images_are_compared_with_normal_images_of_their_own_source() -> None:
    rows, images, masks = clinic("tuberculosis")
    rows[6]["source"] = "another clinic"
    with pytest.raises(UsageError, match="no training image shows tuberculosis"):
        find(rows, images, masks, TUBERCULOSIS)


def test_an_image_without_a_heart_is_not_measured() -> None:
    image, mask = chest(0)
    mask[mask == 3] = 0
    assert np.isnan(brightness(image, mask, zones(TUBERCULOSIS))).all()


def test_brightness_does_not_depend_on_the_tone_of_the_whole_image() -> None:
    image, mask = chest(0)
    names = zones(TUBERCULOSIS)
    darker = (image * 0.5 + 20).astype(np.uint8)
    np.testing.assert_allclose(brightness(darker, mask, names), brightness(image, mask, names), atol=0.02)


@pytest.mark.parametrize(
    ("text", "sides"),
    [("PTB in the right upper field", ("right",)), ("left PTB, pleurisy", ("left",)), ("TB", ("right", "left"))],
)
def test_a_side_that_is_named_is_believed(text: str, sides: tuple[str, ...]) -> None:
    assert said_sides(row("tuberculosis", text=text)) == sides
