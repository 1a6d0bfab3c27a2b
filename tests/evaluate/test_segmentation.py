"""Figures of a segmentation network, and what is refused before they are taken for true."""

import json
from pathlib import Path

import pytest

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.evaluate.segmentation import evaluate_segmenter
from tests.labeller import by_tone
from tests.train.chests import make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "clinic", splits="ttvsss")


def test_a_good_network_gets_good_figures(data: Path) -> None:
    found = evaluate_segmenter(by_tone(), data)
    figures = {(item["class"], item["metric"]): item["value"] for item in found.summary}
    assert figures["heart", "dice"] > 0.95
    assert figures["mean", "nsd"] > 0.9
    assert found.unit == "px"


def test_every_figure_has_an_interval_and_a_count(data: Path) -> None:
    for item in evaluate_segmenter(by_tone(), data).summary:
        assert item["lo"] <= item["value"] <= item["hi"]
        assert item["n"] == 3


def test_channels_and_ids_match_by_name(tmp_path: Path) -> None:
    data = make(tmp_path / "other", classes={"heart": 9, "right_lung": 4, "left_lung": 2}, splits="ts")
    found = evaluate_segmenter(by_tone(("left_lung", "heart", "right_lung")), data)
    assert all(item["value"] > 0.95 for item in found.summary if item["metric"] == "dice")


def test_classes_that_only_the_network_knows_are_left_out(tmp_path: Path) -> None:
    data = make(tmp_path / "lungs", classes={"right_lung": 1, "left_lung": 2}, splits="ts")
    found = evaluate_segmenter(by_tone(), data)
    assert {item["class"] for item in found.summary} == {"right_lung", "left_lung", "mean"}


def test_a_class_that_one_of_them_lacks_is_refused(tmp_path: Path) -> None:
    data = make(tmp_path / "lungs", classes={"right_lung": 1, "left_lung": 2}, splits="ts")
    with pytest.raises(UsageError) as error:
        evaluate_segmenter(by_tone(), data, classes=["heart"])
    assert "right_lung, left_lung" in error.value.hint


def test_no_class_in_common_is_refused(tmp_path: Path) -> None:
    data = make(tmp_path / "hearts", classes={"heart": 1}, splits="ts")
    with pytest.raises(UsageError, match="the network knows left_lung"):
        evaluate_segmenter(by_tone(("left_lung",)), data)


def test_distances_are_in_mm_where_the_dataset_knows_them(tmp_path: Path) -> None:
    known = {i: {"pixel_spacing": [1.5, 1.4]} for i in range(3)}
    found = evaluate_segmenter(by_tone(), make(tmp_path / "mm", splits="tss", rows=known))
    assert found.unit == "mm"
    assert {item["metric"] for item in found.records("ours", "mm:test")} == {"dice", "iou", "hd95_mm", "nsd_mm"}


def test_one_image_without_spacing_keeps_all_in_pixels(tmp_path: Path) -> None:
    found = evaluate_segmenter(by_tone(), make(tmp_path / "mm", splits="tss", rows={1: {"pixel_spacing": [1.5, 1.4]}}))
    assert found.unit == "px"


def test_a_patient_of_the_training_is_refused_in_a_test(data: Path) -> None:
    with pytest.raises(MismatchError) as error:
        evaluate_segmenter(by_tone(), data, learned={"train": ["clinic/p4"]})
    assert "004.png" in error.value.message
    assert "clinic/p4" in error.value.message


def test_sources_can_be_chosen(tmp_path: Path) -> None:
    data = make(tmp_path / "two", splits="tsss", rows={1: {"source": "other"}})
    assert evaluate_segmenter(by_tone(), data, sources=["other"]).keys == ["001"]


def test_all_splits_of_an_external_test_set_can_be_measured(tmp_path: Path) -> None:
    data = make(tmp_path / "external", splits="tvs")
    assert evaluate_segmenter(by_tone(), data, split="all").keys == ["000", "001", "002"]


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="split 'test'"):
        evaluate_segmenter(by_tone(), make(tmp_path / "a", splits="tv"))


def test_every_images_figures_are_plain_json(data: Path) -> None:
    body = json.loads(json.dumps(evaluate_segmenter(by_tone(), data).as_json(), allow_nan=False))
    assert [image["key"] for image in body["images"]] == ["003", "004", "005"]


def test_train_label_and_measure_from_the_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cxrsynth.cli import app

    data, run, runner = make(tmp_path / "clinic"), tmp_path / "run", CliRunner()
    small = ["--encoder", "tu-mobilenetv3_small_050", "--set", "options.decoder_channels=[16,8,8,8,8]", "--size", "64"]
    train = ["train-seg", "--data", f"{data}:1", "-o", run, *small, "--updates", "2", "--batch", "2", "--device", "cpu"]
    for command in (
        train,
        train,
        ["segment", data, "--weights", run, "-o", tmp_path / "out", "--device", "cpu"],
        ["evaluate", "seg", data, "--weights", run, "-o", tmp_path / "results", "--device", "cpu"],
    ):
        result = runner.invoke(app, [str(word) for word in command])
        assert result.exit_code == 0, result.output
    records = json.loads((tmp_path / "results/seg.json").read_text())
    assert {item["metric"] for item in records} == {"dice", "iou", "hd95", "nsd"}
    assert (tmp_path / "results/seg-run-clinic-test-worst.png").exists()
    assert len(list((tmp_path / "out/masks").rglob("*.png"))) == 8
