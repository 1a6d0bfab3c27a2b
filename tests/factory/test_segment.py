"""Labelling images with a trained network: any size, any kind of input, the on-disk form."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.apply.segment import clean, segment
from cxrsynth.store import Store
from tests.labeller import by_tone
from tests.train.chests import chest, make


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of different sizes, one in 16 bits, and one that is broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, size in enumerate((64, 90)):
        Image.fromarray(chest(number, size)[0]).save(folder / f"{number}.png")
    deep = chest(2, 64)[0].astype(np.uint16) * 200
    Image.fromarray(deep).save(folder / "2.png")
    (folder / "3.png").write_bytes(b"no picture")
    return folder


def test_masks_have_the_size_of_their_images(images: Path, tmp_path: Path) -> None:
    segment(by_tone(), images, tmp_path / "out")
    store = Store(tmp_path / "out")
    sizes = [(store.load_image(row).shape, store.load_mask(row).shape) for row in store.rows()]  # type: ignore[union-attr]
    assert sizes == [((64, 64), (64, 64)), ((90, 90), (90, 90)), ((64, 64), (64, 64))]


def test_what_cannot_be_read_is_reported_and_stops_nothing(images: Path, tmp_path: Path) -> None:
    result = segment(by_tone(), images, tmp_path / "out")
    assert result.images == 3
    assert [Path(item["path"]).name for item in result.refused] == ["3.png"]


def test_one_picture_is_enough(images: Path, tmp_path: Path) -> None:
    assert segment(by_tone(), images / "1.png", tmp_path / "out").images == 1
    assert (tmp_path / "out/contact.png").exists()


def test_the_right_lung_is_on_the_pictures_left(images: Path, tmp_path: Path) -> None:
    segment(by_tone(), images, tmp_path / "out")
    store = Store(tmp_path / "out")
    mask = store.load_mask(next(store.rows()))
    assert mask is not None
    assert np.nonzero(mask == 1)[1].mean() < np.nonzero(mask == 2)[1].mean()


def test_a_dataset_keeps_what_is_known_about_its_images(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    segment(by_tone(), data, tmp_path / "out", split="val")
    rows = list(Store(tmp_path / "out").rows())
    assert [(row["split"], row["patient"]) for row in rows] == [("val", "p5"), ("val", "p6")]


def test_the_result_can_be_trained_on(tmp_path: Path) -> None:
    from cxrsynth.data.labelled import Source, gather, may_train

    data = make(tmp_path / "data")
    segment(by_tone(), data, tmp_path / "out")
    assert len(gather(Source(tmp_path / "out"), "train", ["heart"], may_train(False))) == 5


def test_masks_of_a_network_that_learned_from_restricted_masks_stay_restricted(tmp_path: Path) -> None:
    segment(by_tone(benchmark=True), make(tmp_path / "data"), tmp_path / "out")
    assert {row["mask_use"] for row in Store(tmp_path / "out").rows()} == {"benchmark"}


def test_a_broken_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrsynth.factory.apply.segment.SHARD", 3)
    data = make(tmp_path / "data")
    out = tmp_path / "out"
    segment(by_tone(), data, out)
    before = (out / "masks/00000/000.png").stat().st_mtime_ns
    (out / "shards/00001.json").unlink()
    assert segment(by_tone(), data, out).images == 8
    assert (out / "masks/00000/000.png").stat().st_mtime_ns == before
    assert (out / "shards/00001.json").exists()


def test_masks_of_another_network_are_not_overwritten(images: Path, tmp_path: Path) -> None:
    segment(by_tone(), images, tmp_path / "out")
    with pytest.raises(MismatchError, match="another network"):
        segment(by_tone(sha256="0" * 64), images, tmp_path / "out")


def test_another_dataset_is_not_overwritten(images: Path, tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    before = json.loads((data / "classes.json").read_text())
    with pytest.raises(MismatchError, match="another dataset"):
        segment(by_tone(), images, data)
    assert json.loads((data / "classes.json").read_text()) == before


def test_a_folder_of_broken_pictures_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="not an image"):
        segment(by_tone(), folder, tmp_path / "out")


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        segment(by_tone(), tmp_path / "nothing", tmp_path / "out")


def test_specks_and_holes_are_cleaned_as_annotate_cleans_them() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 8:28] = 1
    mask[20:24, 14:18] = 0  # a hole
    mask[60:62, 60:62] = 1  # a speck
    mask[44:60, 30:50] = 2
    cleaned = clean(mask, np.zeros((64, 64), np.uint8), ("right_lung", "heart"))
    assert (cleaned[8:40, 8:28] == 1).all()
    assert not cleaned[60:62, 60:62].any()
    assert ((cleaned == 2) == (mask == 2)).all()
