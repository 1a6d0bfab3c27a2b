"""A finding's place is where a film that has it is brighter than normal films of its source, and nowhere else."""

from typing import Any

import numpy as np
import pytest

from cxrsynth.domain import regions
from cxrsynth.errors import UsageError
from cxrsynth.train.tasks.pathology.config import PathologyConfig
from cxrsynth.train.tasks.pathology.places import Place, brightness, find, said_sides, zones
from tests.train.chests import chest

# Six normal films tell their spread roughly; a filled zone lies far beyond it.
TUBERCULOSIS = PathologyConfig(
    findings={"tuberculosis": ("tuberculosis",)}, places={"tuberculosis": ("upper zone",)}, bright=10.0
)


def row(findings: str, **more: Any) -> dict[str, Any]:
    return {"findings": findings, "prompt": "Frontal chest X-ray.", "source": "clinic", **more}


def films(sick: str | None, region: str = "right upper zone") -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    """Six normal films and one that is bright in a region."""
    pairs = [chest(number) for number in range(7)]
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    images[6][regions.resolve(region, masks[6])] = 180
    return [row("normal") for _ in range(6)] + [row(sick or "normal")], images, masks


def test_the_bright_zone_of_a_sick_film_is_the_place() -> None:
    places = find(*films("tuberculosis"), TUBERCULOSIS)
    assert [place for place in places if place.finding] == [Place(6, "tuberculosis", "right upper zone")]


def test_a_bright_zone_where_the_finding_does_not_occur_is_no_place() -> None:
    config = TUBERCULOSIS.model_copy(update={"places": {"tuberculosis": ("upper zone", "lower zone")}})
    found = {place.region for place in find(*films("tuberculosis", "left lower zone"), config) if place.finding}
    assert found == {"left lower zone"}
    with pytest.raises(UsageError, match="no training film shows tuberculosis in a zone that is brighter"):
        find(*films("tuberculosis", "left lower zone"), TUBERCULOSIS)


def test_a_bright_zone_of_a_normal_film_is_not_clear() -> None:
    rows, images, masks = films("tuberculosis")
    images[0][regions.resolve("left upper zone", masks[0])] = 180
    clear = {place.region for place in find(rows, images, masks, TUBERCULOSIS) if place.film == 0}
    assert "left upper zone" not in clear


def test_films_are_compared_with_normal_films_of_their_own_source() -> None:
    rows, images, masks = films("tuberculosis")
    rows[6]["source"] = "another clinic"
    with pytest.raises(UsageError, match="no training film shows tuberculosis"):
        find(rows, images, masks, TUBERCULOSIS)


def test_a_film_without_a_heart_is_not_measured() -> None:
    film, mask = chest(0)
    mask[mask == 3] = 0
    assert np.isnan(brightness(film, mask, zones(TUBERCULOSIS))).all()


def test_brightness_does_not_depend_on_the_tone_of_the_whole_film() -> None:
    film, mask = chest(0)
    names = zones(TUBERCULOSIS)
    darker = (film * 0.5 + 20).astype(np.uint8)
    np.testing.assert_allclose(brightness(darker, mask, names), brightness(film, mask, names), atol=0.02)


@pytest.mark.parametrize(
    ("text", "sides"),
    [("PTB in the right upper field", ("right",)), ("left PTB, pleurisy", ("left",)), ("TB", ("right", "left"))],
)
def test_a_side_that_is_named_is_believed(text: str, sides: tuple[str, ...]) -> None:
    assert said_sides(row("tuberculosis", text=text)) == sides
