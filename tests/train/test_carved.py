"""A dataset without a validation split gives some patients of its train split, by patient, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cxrsynth.data.labelled import Source
from cxrsynth.data.patients import carve
from cxrsynth.errors import UsageError
from cxrsynth.store import Store
from cxrsynth.train.tasks.classify.config import ClassifyConfig
from cxrsynth.train.tasks.classify.training import collect as collect_said
from cxrsynth.train.tasks.segment.config import SegmentConfig
from cxrsynth.train.tasks.segment.training import collect
from tests.small_dataset import make


def without_validation(root: Path, patients: int) -> Path:
    """A small dataset whose images all are for training, three to a patient."""
    make(root, count=3 * patients)
    for meta in (root / "meta").glob("*.jsonl"):
        rows = [json.loads(line) for line in meta.read_text().splitlines()]
        for row in rows:
            row |= {"split": "train", "patient": f"p{int(row['key']) // 3}", "source": "hospital"}
            row["prompt"] = "cardiomegaly" if int(row["key"]) % 2 else "normal heart size"
        text = "".join(json.dumps(row) + "\n" for row in rows)
        meta.write_text(text)
        receipt = root / "shards" / f"{meta.stem}.json"
        body = json.loads(receipt.read_text())
        body["files"][f"meta/{meta.name}"]["size"] = len(text.encode())
        receipt.write_text(json.dumps(body))
    (root / "recipe.yaml").unlink()
    return root


def test_a_segmenter_validates_on_patients_it_does_not_learn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = without_validation(tmp_path / "data", 8)
    images = collect([Source(root)], [], SegmentConfig())
    learned = {image.row["patient"] for image in images.train[0]}
    held_out = {image.row["patient"] for image in images.val}
    assert (len(learned), len(held_out)) == (7, 1)
    assert not learned & held_out
    assert "has no validation split: 1 patient of its train split stand" in capsys.readouterr().err.replace("\n", " ")


def test_a_classifier_validates_on_patients_it_does_not_learn_from(tmp_path: Path) -> None:
    root = without_validation(tmp_path / "data", 8)
    images, _ = collect_said([Source(root)], [], ClassifyConfig(labels=("cardiomegaly",)))
    assert images.val
    assert not {image.row["patient"] for image in images.val} & {image.row["patient"] for image in images.train[0]}


def test_the_same_patients_are_held_out_when_fewer_are_learned_from(tmp_path: Path) -> None:
    root = without_validation(tmp_path / "data", 8)
    every, few = (collect([Source(root, images=count)], [], SegmentConfig()) for count in (0, 2))
    assert [image.row["key"] for image in every.val] == [image.row["key"] for image in few.val]
    assert len({image.row["patient"] for image in few.train[0]}) == 2


def test_a_dataset_with_a_validation_split_keeps_it(tmp_path: Path) -> None:
    assert carve(make(tmp_path / "data"), lambda row: True) == frozenset()


def test_a_dataset_of_one_patient_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no validation split") as caught:
        carve(without_validation(tmp_path / "data", 1), lambda row: True)
    assert "--val" in caught.value.hint
    assert len(list(Store(tmp_path / "data").rows())) == 3
