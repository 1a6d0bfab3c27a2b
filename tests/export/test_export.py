"""An export is whole or absent, says where it comes from, and never overwrites anything else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.errors import MismatchError, MissingError, UsageError
from cxrsynth.export import export
from cxrsynth.export.folder import Folder
from cxrsynth.registry import names
from cxrsynth.store import Store
from tests.conftest import tree
from tests.phantoms import make
from tests.small_dataset import make_real

FORMS = ["coco", "dicom", "hf", "monai", "nnunet", "webdataset", "yolo"]


class Stop(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    """Let the next export be killed after some files."""
    put = Folder.put

    def stopping(self: Folder, relative: str, data: bytes) -> str:
        if len(self.files) == files:
            raise Stop
        return put(self, relative, data)

    monkeypatch.setattr(Folder, "put", stopping)


def test_the_registry_knows_the_formats() -> None:
    assert set(FORMS) <= set(names("exports"))


@pytest.mark.parametrize("form", FORMS)
def test_a_killed_export_is_absent_and_the_next_run_finishes_it(
    form: str, layered_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(layered_data, form, tmp_path / "whole" / "out")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stop):
            export(layered_data, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert json.loads((tmp_path / "out.partial/export.json").read_text())["complete"] is False
    found = export(layered_data, form, tmp_path / "out")
    assert found.written == found.files - 2
    assert tree(tmp_path / "out") == tree(tmp_path / "whole" / "out")
    assert not (tmp_path / "out.partial").exists()


def test_an_export_that_was_killed_before_it_said_what_it_is_goes_on(plain_data: Path, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/.tmp-export.json-404fd16b").write_bytes(b"{")
    export(plain_data, "coco", tmp_path / "out")
    assert not list(tmp_path.rglob(".tmp-*"))
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_is_there_is_left_as_it_is(form: str, plain_data: Path, tmp_path: Path) -> None:
    export(plain_data, form, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert export(plain_data, form, tmp_path / "out").written == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_file_that_was_lost_is_written_again(plain_data: Path, tmp_path: Path) -> None:
    export(plain_data, "coco", tmp_path / "out")
    next((tmp_path / "out/images/train").iterdir()).unlink()
    assert export(plain_data, "coco", tmp_path / "out").written == 1


def test_a_dataset_that_has_grown_is_brought_up_to_date(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    export(data, "coco", tmp_path / "out")
    (tmp_path / "out/labels.cache").write_text("of a training program")
    make(tmp_path / "data", count=9)
    found = export(data, "coco", tmp_path / "out")
    assert sum(found.images.values()) == 9
    assert (tmp_path / "out/labels.cache").exists()
    export(data, "coco", tmp_path / "anew")
    (tmp_path / "out/labels.cache").unlink()
    assert tree(tmp_path / "out") == tree(tmp_path / "anew")


def test_another_dataset_in_the_folder_is_refused_and_stays(
    plain_data: Path, layered_data: Path, tmp_path: Path
) -> None:
    export(plain_data, "coco", tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(MismatchError, match="another export") as caught:
        export(layered_data, "coco", tmp_path / "out")
    assert "-o" in caught.value.hint
    with pytest.raises(MismatchError, match="format"):
        export(plain_data, "yolo", tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_a_folder_with_other_files_is_refused(plain_data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(MismatchError, match="holds no export"):
        export(plain_data, "coco", tmp_path / "out")
    assert (tmp_path / "out/thesis.txt").read_text() == "mine"


def test_a_ledger_cannot_make_the_export_remove_files_elsewhere(plain_data: Path, tmp_path: Path) -> None:
    export(plain_data, "coco", tmp_path / "out")
    (tmp_path / "precious.txt").write_text("mine")
    path = tmp_path / "out/export.json"
    body = json.loads(path.read_text())
    body["files"]["../precious.txt"] = {"sha256": "", "size": 1}
    path.write_text(json.dumps(body))
    export(plain_data, "coco", tmp_path / "out")
    assert (tmp_path / "precious.txt").exists()


@pytest.mark.parametrize("form", FORMS)
def test_provenance_and_licence_travel(form: str, plain_data: Path, tmp_path: Path) -> None:
    export(plain_data, form, tmp_path / "out")
    body = json.loads((tmp_path / "out/export.json").read_text())
    assert body["fingerprint"] == next(Store(plain_data).receipts()).fingerprint
    assert body["synthetic"] is True
    assert sum(body["licences"].values()) == 6
    text = (tmp_path / "out/README.md").read_text()
    assert body["fingerprint"] in text
    assert "synthetic" in text
    assert next(iter(body["licences"])) in text


def test_real_images_are_not_called_synthetic_and_keep_their_licence(tmp_path: Path) -> None:
    export(make_real(tmp_path / "data"), "coco", tmp_path / "out")
    body = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert body["info"]["synthetic"] is False
    assert [one["name"] for one in body["licenses"]] == ["CC-BY-4.0"]
    assert "synthetic" not in (tmp_path / "out/README.md").read_text()


def test_an_image_without_a_mask_is_no_image_without_objects(tmp_path: Path) -> None:
    data = make_real(tmp_path / "data")
    assert export(data, "coco", tmp_path / "coco").left_out == {"no mask": 1}
    assert sum(export(data, "webdataset", tmp_path / "wds").images.values()) == 3


def test_a_partly_labelled_dataset_loads_with_its_masks_and_all_images_beside(tmp_path: Path) -> None:
    from datasets import load_dataset

    export(make_real(tmp_path / "data"), "hf", tmp_path / "hf")
    assert len(load_dataset(str(tmp_path / "hf"), split="train", cache_dir=str(tmp_path / "cache"))) == 2
    every = load_dataset(str(tmp_path / "hf"), "images", split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["patient"] for row in every] == ["p0", "p1", "p2"]


def test_masks_that_may_only_be_measured_with_are_not_exported_for_training(tmp_path: Path) -> None:
    data = make_real(tmp_path / "data")
    meta = data / "meta/00000.jsonl"
    rows = [json.loads(line) for line in meta.read_text().splitlines()]
    rows[0]["mask_use"] = "benchmark"
    rows[1]["mask_classes"] = ["heart"]
    meta.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match="nothing"):
        export(data, "nnunet", tmp_path / "out")
    found = export(data, "nnunet", tmp_path / "heart", classes=["heart"])
    assert found.images == {"train": 1}
    (root,) = (tmp_path / "heart").glob("Dataset*")
    assert json.loads((root / "dataset.json").read_text())["labels"] == {"background": 0, "heart": 1}


def test_pixels_to_ignore_become_nnunets_ignore_label(tmp_path: Path) -> None:
    data = make(tmp_path / "data", masks={"ignore": 0.7})
    export(data, "nnunet", tmp_path / "Dataset600_small")
    labels = json.loads((tmp_path / "Dataset600_small/dataset.json").read_text())["labels"]
    assert labels["ignore"] == 4


def test_an_unknown_format_or_class_is_an_error_with_a_hint(plain_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="coc") as caught:
        export(plain_data, "coc", tmp_path / "out")
    assert "did you mean 'coco'" in caught.value.hint
    with pytest.raises(UsageError, match="spleen"):
        export(plain_data, "coco", tmp_path / "out", classes=["spleen"])


def test_the_command_writes_an_export_and_says_so_in_json(plain_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "coco"
    result = CliRunner().invoke(app, ["export", str(plain_data), "--to", "coco", "-o", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == {"train": 2, "val": 3, "test": 1}
    assert (out / "annotations/instances_train.json").exists()


def test_a_missing_package_is_named_with_what_to_type(
    plain_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cxrsynth.export.coco", raising=False)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(MissingError, match="pycocotools") as caught:
        export(plain_data, "coco", tmp_path / "out")
    assert caught.value.exit_code == 4
    assert caught.value.hint == "pip install 'cxrsynth[export]'"
