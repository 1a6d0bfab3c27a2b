"""Real images in any state become a dataset; nothing is lost silently."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.factory.verify import against_receipts
from cxrsynth.ingest.collection import Collection
from cxrsynth.ingest.convert import ingest
from cxrsynth.ingest.folder import Folder, split_of
from cxrsynth.ingest.image import UnreadableError, read_gray, stretch
from cxrsynth.store import Store

COLUMNS = [
    "id",
    "source",
    "use",
    "licence",
    "patient_id",
    "group_id",
    "split",
    "view",
    "sex",
    "age",
    "population",
    "findings",
    "caption",
    "mask",
    "mask_classes",
    "mask_definition",
    "content_box",
]


def gradient(width: int = 80, height: int = 64) -> np.ndarray:
    return np.linspace(20, 220, width * height).reshape(height, width).astype(np.uint8)


def halves(width: int = 80, height: int = 64) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[10:50, 5:35], mask[10:50, 45:75] = 1, 2
    return mask


@pytest.fixture
def collection(tmp_path: Path) -> Any:
    """A collection: add rows with ``add``, then ``finish`` gives its folder."""
    root = tmp_path / "data"
    table: list[dict[str, str]] = []

    def add(name: str, source: str = "a", picture: Any = None, mask: np.ndarray | None = None, **row: str) -> None:
        folder = root / source / "images"
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, bytes):
            (folder / f"{name}.jpg").write_bytes(picture)
        elif picture is not None:
            Image.fromarray(picture).save(folder / f"{name}.png")
        body = {
            "id": name,
            "source": source,
            "use": "open",
            "split": "train",
            "caption": "Chest X-ray.",
            "group_id": name,
        }
        if mask is not None:
            place = row.pop("place", f"masks/{name}.png")
            (root / source / place).parent.mkdir(exist_ok=True)
            Image.fromarray(mask).save(root / source / place)
            body |= {"mask": place, "mask_classes": "right_lung|left_lung", "mask_definition": "standard"}
        table.append({**dict.fromkeys(COLUMNS, ""), **body, **row})

    def finish() -> Path:
        root.mkdir(exist_ok=True)
        with open(root / "metadata.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(table)
        return root

    add.finish = finish  # type: ignore[attr-defined]
    return add


def test_images_and_masks_arrive_square_with_their_rows(collection: Any, tmp_path: Path) -> None:
    collection("x", picture=gradient(), mask=halves(), split="val", age="37", sex="M")
    result = ingest(Collection(collection.finish()), tmp_path / "out", 64)
    store = Store(tmp_path / "out")
    (row,) = store.rows()
    mask = store.load_mask(row)
    assert result.kept == result.masks == 1
    assert store.load_image(row).shape == (64, 64)
    assert (row["split"], row["age"], row["sex"], row["aspect"]) == ("val", 37.0, "M", 1.25)
    assert mask is not None
    assert mask[32, 16] == 1
    assert mask[32, 48] == 2


def test_the_tint_of_a_lamp_is_no_colour_and_colours_that_cancel_out_are(tmp_path: Path) -> None:
    gray = gradient(64, 64)
    tinted = (gray[..., None] * np.array([1.0, 0.9, 0.75])).astype(np.uint8)
    Image.fromarray(tinted).save(tmp_path / "tinted.png")
    found, _ = read_gray(tmp_path / "tinted.png")
    assert np.corrcoef(found.ravel(), gray.ravel())[0, 1] > 0.999
    halves = np.stack([gray, gray[::-1, ::-1], gray], axis=2)  # every channel is as bright as the others on the whole
    Image.fromarray(halves).save(tmp_path / "halves.png")
    with pytest.raises(UnreadableError, match="colour"):
        read_gray(tmp_path / "halves.png")


def test_what_cannot_be_read_is_listed_with_its_reason_and_the_rest_goes_on(collection: Any, tmp_path: Path) -> None:
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[..., 0] = gradient(64, 64)
    collection("good", picture=gradient())
    collection("corrupt", picture=b"\xff\xd8\xff\xe0 not an image")
    collection("empty", picture=b"")
    collection("missing")
    collection("colour", picture=colour)
    collection("flat", picture=np.full((64, 64), 7, np.uint8))
    result = ingest(Collection(collection.finish()), tmp_path / "out", 64)
    reasons = {row["key"]: row["reason"] for row in result.refused}
    assert result.kept == 1
    assert set(reasons) == {"corrupt", "empty", "missing", "colour", "flat"}
    assert "corrupt" in reasons["corrupt"]
    assert "empty" in reasons["empty"]
    assert "missing" in reasons["missing"]
    assert "colour" in reasons["colour"]
    assert "contrast" in reasons["flat"]


def test_a_sixteen_bit_image_keeps_its_tones_and_is_noted(collection: Any, tmp_path: Path) -> None:
    deep = np.linspace(1000, 5000, 64 * 64).reshape(64, 64).astype(np.uint16)
    collection("deep", picture=deep)
    result = ingest(Collection(collection.finish()), tmp_path / "out", 64)
    store = Store(tmp_path / "out")
    image = store.load_image(next(store.rows()))
    assert len(np.unique(image)) > 200
    assert "uint16" in result.notes[0]["reason"] or "int32" in result.notes[0]["reason"]


def test_a_mask_of_another_shape_is_dropped_and_noted_but_its_image_stays(collection: Any, tmp_path: Path) -> None:
    collection("x", picture=gradient(), mask=halves(100, 90))
    result = ingest(Collection(collection.finish()), tmp_path / "out", 64)
    assert (result.kept, result.masks) == (1, 0)
    assert "100x90" in result.notes[0]["reason"]


def test_a_0_255_mask_is_no_class_mask(collection: Any, tmp_path: Path) -> None:
    collection("x", picture=gradient(), mask=(halves() > 0).astype(np.uint8) * 255)
    result = ingest(Collection(collection.finish()), tmp_path / "out", 64)
    assert "255" in result.notes[0]["reason"]


def test_external_test_images_and_benchmark_masks_come_only_when_asked_for(collection: Any, tmp_path: Path) -> None:
    collection("open", picture=gradient())
    collection("held", source="external", picture=gradient(), use="test")
    collection("nc", source="b", picture=gradient(), mask=halves(), place="masks_nc/nc.png")
    root = collection.finish()
    plain = ingest(Collection(root), tmp_path / "plain", 64)
    measured = ingest(Collection(root, benchmark=True), tmp_path / "measured", 64)
    uses = {row["key"]: row["mask_use"] for row in Store(tmp_path / "measured").rows()}
    assert (plain.kept, plain.masks) == (2, 0)
    assert (measured.kept, measured.masks) == (3, 1)
    assert uses["nc"] == "benchmark"
    with pytest.raises(UsageError, match="external test set"):
        Collection(root, ["external"])


def test_a_collection_of_tests_only_says_why_nothing_is_kept(collection: Any) -> None:
    for source in ("a", "b"):
        collection(f"of-{source}", source=source, picture=gradient(), use="test")
    with pytest.raises(UsageError, match=r"every image of .* external test set") as error:
        Collection(collection.finish())
    assert "--benchmark" in error.value.hint


def test_two_mask_definitions_never_share_a_class(collection: Any, tmp_path: Path) -> None:
    collection("s", picture=gradient(), mask=halves())
    collection("v", source="b", picture=gradient(), mask=halves(), mask_definition="v7")
    root = collection.finish()
    assert ingest(Collection(root), tmp_path / "one", 64).masks == 1
    ingest(Collection(root, definitions=("standard", "v7")), tmp_path / "both", 64)
    store = Store(tmp_path / "both")
    seen = {row["key"]: set(np.unique(store.load_mask(row))) - {0} for row in store.rows()}  # type: ignore[arg-type]
    assert store.classes() == {"right_lung": 1, "left_lung": 2, "right_lung_v7": 3, "left_lung_v7": 4}
    assert not seen["s"] & seen["v"]


def test_the_content_box_cuts_image_and_mask_alike(collection: Any, tmp_path: Path) -> None:
    framed, mask = np.zeros((100, 120), np.uint8), np.zeros((100, 120), np.uint8)
    framed[20:84, 30:110], mask[20:84, 30:110] = gradient(), halves()
    collection("x", picture=framed, mask=mask, content_box="30 20 110 84")
    collection("y", picture=gradient(), mask=halves())
    ingest(Collection(collection.finish()), tmp_path / "out", 64)
    store = Store(tmp_path / "out")
    x, y = store.rows()
    assert np.array_equal(store.load_image(x), store.load_image(y))
    assert np.array_equal(store.load_mask(x), store.load_mask(y))  # type: ignore[arg-type]


def test_running_the_command_again_changes_nothing_and_fixes_what_is_gone(collection: Any, tmp_path: Path) -> None:
    collection("x", picture=gradient())
    collection("bad", picture=b"")
    root, out = collection.finish(), tmp_path / "out"
    first = ingest(Collection(root), out, 64)
    image = out / next(Store(out).rows())["image"]
    stamp = image.stat().st_mtime_ns
    assert ingest(Collection(root), out, 64) == first
    assert image.stat().st_mtime_ns == stamp
    image.unlink()
    ingest(Collection(root), out, 64)
    assert image.exists()
    assert not list(against_receipts(Store(out)))


def test_other_options_do_not_mix_into_the_same_folder(collection: Any, tmp_path: Path) -> None:
    collection("x", picture=gradient())
    root = collection.finish()
    ingest(Collection(root), tmp_path / "out", 64)
    with pytest.raises(MismatchError):
        ingest(Collection(root), tmp_path / "out", 128)


def test_an_unknown_source_lists_the_right_ones(collection: Any) -> None:
    collection("x", source="nih", picture=gradient())
    with pytest.raises(UsageError) as error:
        Collection(collection.finish(), ["nhi"])
    assert "did you mean 'nih'" in error.value.hint


def test_a_plain_folder_with_masks_beside_its_pictures(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "images" / name).mkdir(parents=True)
    Image.fromarray(gradient()).save(tmp_path / "images/images/p 1.png")
    Image.fromarray(gradient()).save(tmp_path / "images/images/p2.png")
    Image.fromarray(halves()).save(tmp_path / "images/masks/p 1.png")
    result = ingest(Folder(tmp_path / "images"), tmp_path / "out", 64)
    assert (result.kept, result.masks) == (2, 1)
    assert [row["key"] for row in Store(tmp_path / "out").rows()] == ["p_1", "p2"]


def test_words_without_a_picture_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(gradient()).save(tmp_path / "images/a.png")
    (tmp_path / "images/metadata.csv").write_text("file,caption\na.png,Clear lungs.\nb.png,Effusion.\n")
    result = ingest(Folder(tmp_path / "images"), tmp_path / "out", 64)
    assert [row["prompt"] for row in Store(tmp_path / "out").rows()] == ["Clear lungs."]
    assert [(row["key"], row["reason"]) for row in result.refused] == [("b.png", "file is missing")]


def test_a_patient_keeps_its_split_whatever_else_is_added() -> None:
    names = [f"patient {i}" for i in range(300)]
    splits = [split_of(name) for name in names]
    assert splits == [split_of(name) for name in names]
    assert 200 < splits.count("train") < 270


def test_tone_is_the_images_own() -> None:
    dark = gradient().astype(np.float32) * 0.2 + 10
    assert np.allclose(stretch(dark), stretch(gradient().astype(np.float32)), atol=1e-2)
