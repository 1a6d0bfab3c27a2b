"""evaluate grounding: halves by patient, readers of maps, figures with chance and controls beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.encoding import dumps
from cxrsynth.errors import UsageError
from cxrsynth.evaluate.finding_maps import attention, stored
from cxrsynth.evaluate.findings import CONTROLS, measure, records
from cxrsynth.evaluate.lesions import cases, half_of
from cxrsynth.records import Entry
from cxrsynth.store import Store
from cxrsynth.weights import MODELS
from tests.small_dataset import CLASSES, chest

COUNT = 6


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 64 pixels whose left lung is boxed as opacity, twice as large in the original; one has no box."""
    root = tmp_path_factory.mktemp("boxed") / "d"
    store = Store(root)
    listed = [{"id": number, "name": name, "phrase": name.replace("_", " ")} for name, number in CLASSES.items()]
    store.write("classes.json", dumps({"classes": listed}))
    entries = []
    for number in range(COUNT):
        image, mask = chest(number)
        rows, columns = np.nonzero(mask == CLASSES["left_lung"])
        corner = [int(columns.min()), int(rows.min())]
        size = [int(columns.max()) + 1 - corner[0], int(rows.max()) + 1 - corner[1]]
        box = ["rsna:lung_opacity", *(2.0 * value for value in [*corner, *size])]
        row = {
            "key": f"image-{number}", "prompt": "Chest X-ray.", "split": "test", "source": "clinic",
            "patient": f"p{number}", "content_box": [0, 0, 128, 128], "boxes_nih": "",
            "boxes_rsna": json.dumps([box]) if number else "",
            "text": "" if number else "PTB in the right upper field",
        }  # fmt: skip
        entries.append(Entry(row, image, mask))
    store.write_shard(0, entries, fingerprint="0" * 64, planned=[entry.row["key"] for entry in entries])
    return root


def test_every_patient_is_in_one_half_and_stays_there(boxed: Path) -> None:
    halves = [{case.row["key"] for case in cases(boxed, half)} for half in ("working", "reporting")]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == {f"image-{number}" for number in range(1, COUNT)}
    assert {half_of(f"p{number}") for number in range(40)} == {"working", "reporting"}


def test_patients_that_a_network_has_seen_are_left_out(boxed: Path) -> None:
    left = {case.row["key"] for case in cases(boxed, "both", seen=["clinic/p1", "clinic/p2"])}
    assert left == {"image-3", "image-4", "image-5"}


def test_images_without_boxes_are_refused(boxed: Path) -> None:
    with pytest.raises(UsageError, match="from nih"):
        cases(boxed, "both", ["nih"])


def test_masks_that_are_the_finding_point_at_it_and_others_do_not(boxed: Path) -> None:
    chosen = cases(boxed, "both")
    values = measure(boxed, chosen, stored(boxed, ["left_lung", "right_lung"]))
    found = {(one["arm"], one["metric"]): one["value"] for one in records(chosen, values, "masks", "boxed", "both")}
    assert found["masks: left_lung", "pointing"] == 1
    assert found["masks: right_lung", "pointing"] == 0
    assert found["masks: left_lung", "auroc"] > 0.8  # a lung does not fill the corners of its box
    assert 0.05 < found["chance", "pointing"] < 0.3


def test_figures_count_within_lungs_and_heart_where_their_masks_are_given(boxed: Path) -> None:
    whole, within = (cases(boxed, "both", lungs=lungs)[0] for lungs in (None, boxed))
    assert whole.region.all()
    assert within.region.sum() < whole.region.sum()
    assert within.region[within.target].mean() > 0.9


def test_a_zone_in_words_needs_masks_of_the_lungs(boxed: Path) -> None:
    with pytest.raises(UsageError, match="masks of the lungs"):
        cases(boxed, "both", ["readings"])


def test_a_reading_is_the_zone_of_the_images_own_lung(boxed: Path) -> None:
    (case,) = cases(boxed, "both", ["readings"], lungs=boxed)
    mask = Store(boxed).load_mask(case.row)
    assert mask is not None
    assert (case.row["key"], case.finding) == ("image-0", "tuberculosis")
    assert case.target.any()
    assert (mask[case.target] == CLASSES["right_lung"]).all()


def test_a_class_that_was_not_predicted_is_refused(boxed: Path) -> None:
    with pytest.raises(UsageError, match="no class 'opacity'"):
        stored(boxed, ["opacity"])


@pytest.fixture(scope="module")
def read(boxed: Path) -> list[dict[str, float]]:
    chosen = cases(boxed, "both")[:2]
    return measure(boxed, chosen, attention(MODELS / "mini", ["left lung", *CONTROLS], timesteps=(100,)))


def test_every_phrase_and_control_of_a_model_is_measured(read: list[dict[str, float]]) -> None:
    assert all(np.isfinite(list(one.values())).all() for one in read)
    assert {key.rpartition("|")[0] for key in read[0]} == {"chance", "left lung", *CONTROLS}


def test_a_phrase_is_compared_with_the_best_control(boxed: Path, read: list[dict[str, float]]) -> None:
    found = records(cases(boxed, "both")[:2], read, "mini", "boxed", "both")
    over = [one for one in found if " - " in one["arm"] and one["metric"] == "auroc"]
    assert len(over) == 1
    own, best = (next(o["value"] for o in found if o["arm"] == f"mini: {phrase}" and o["metric"] == "auroc")
                 for phrase in ("left lung", over[0]["arm"].rpartition(" - ")[2]))  # fmt: skip
    assert over[0]["value"] == pytest.approx(own - best, abs=1e-4)


def test_the_command_writes_records(boxed: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "grounding", str(boxed), "--pred", str(boxed), "--phrase", "left_lung", "--half", "both"]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "lesions.json").read_text())
    assert {one["metric"] for one in written} == {"pointing", "miou", "cnr", "auroc"}
    assert all(one["lo"] <= one["value"] <= one["hi"] for one in written)
