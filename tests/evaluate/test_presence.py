"""Whether a finding is there at all: against what is said of real images, and what synthetic ones were asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrsynth.encoding import dumps
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.finding_maps import Maps
from cxrsynth.evaluate.presence import asked, on_real, said, score, thresholds
from cxrsynth.records import Entry, Row
from cxrsynth.store import Store

CLASSES = {"opacity": 1, "effusion": 2}
BRIGHT = 200


def write(root: Path, rows: list[Row], bright: list[bool]) -> Path:
    """Gray images, bright ones with a finding, in a way that `by_brightness` sees."""
    store = Store(root)
    listed = [{"id": number, "name": name, "phrase": name} for name, number in CLASSES.items()]
    store.write("classes.json", dumps({"classes": listed}))
    entries = [
        Entry(row, np.full((16, 16), BRIGHT if one else 20, np.uint8)) for row, one in zip(rows, bright, strict=True)
    ]
    store.write_shard(0, entries, fingerprint="0" * 64, planned=[row["key"] for row in rows])
    return root


def by_brightness(rows: list[Row], images: list[np.ndarray]) -> Maps:
    """A network that takes what is bright for an opacity, and sees no effusion."""
    return {"opacity": [image / 255 for image in images], "effusion": [np.zeros(image.shape) for image in images]}


def real(number: int, findings: str, **more: Any) -> Row:
    key = f"image-{number}"
    return {"key": key, "prompt": "", "findings": findings, "source": "nih", "patient": f"p{number}", **more}


def synthetic(number: int, **present: bool) -> Row:
    told = {name: present.get(name, False) for name in CLASSES}
    return {"key": f"image-{number}", "prompt": "", "present": told, "split": "val"}


def test_the_score_is_that_of_the_highest_hundredth() -> None:
    drawn = np.zeros((20, 20))
    drawn[0, :4] = 1.0
    drawn[5, 5] = 0.5
    assert score(drawn) == 1.0


@pytest.mark.parametrize(
    ("row", "value"),
    [
        (real(0, "Pneumonia|Edema"), 1.0),
        (real(0, "No Finding"), 0.0),
        (real(0, "effusion"), float("nan")),
        (real(0, "no finding", boxes_rsna='[["rsna:lung_opacity", 1, 1, 5, 5]]'), float("nan")),
    ],
)
def test_what_is_said_of_an_image_is_yes_no_or_nothing(row: Row, value: float) -> None:
    assert said(row, "opacity") == pytest.approx(value, nan_ok=True)


def test_a_network_that_sees_the_finding_tells_real_images_apart(tmp_path: Path) -> None:
    rows = [real(i, "pneumonia" if i % 2 else "no finding") for i in range(8)]
    data = write(tmp_path / "d", rows, [bool(i % 2) for i in range(8)])
    (found,) = on_real(data, by_brightness, ["opacity", "effusion"], "net", "d", "both")
    assert (found["class"], found["metric"], found["value"], found["n"]) == ("opacity", "image_auroc", 1.0, 8)


def test_patients_it_was_trained_on_do_not_count(tmp_path: Path) -> None:
    rows = [real(i, "pneumonia" if i % 2 else "no finding") for i in range(8)]
    data = write(tmp_path / "d", rows, [bool(i % 2) for i in range(8)])
    (found,) = on_real(data, by_brightness, ["opacity"], "net", "d", "both", seen=["nih/p0", "nih/p1"])
    assert found["n"] == 6


def test_images_of_which_nothing_is_said_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "d", [real(0, "device")], [True])
    with pytest.raises(UsageError, match="opacity"):
        on_real(data, by_brightness, ["opacity"], "net", "d", "both")


def test_asked_for_findings_are_there_and_others_absent_as_the_threshold_says(tmp_path: Path) -> None:
    known = write(tmp_path / "a", [synthetic(0, opacity=True), synthetic(1)], [True, False])
    limits = thresholds(known, by_brightness, ["opacity"])
    made = write(
        tmp_path / "b", [synthetic(i, opacity=i < 4) for i in range(8)], [i != 0 for i in range(5)] + 3 * [False]
    )
    found = {
        (one["metric"], one["class"]): (one["value"], one["n"]) for one in asked(made, by_brightness, limits, "net")
    }
    assert found["asked_and_there", "opacity"] == (0.75, 4)  # one of four is missing
    assert found["not_asked_and_absent", "opacity"] == (0.75, 4)  # one of four has it all the same
    assert found["asked_and_there", "all"] == (0.75, 4)
