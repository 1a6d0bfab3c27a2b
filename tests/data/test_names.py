"""Keys are unique file names; names in tables find their files by path; no path leaves its folder."""

import os
from pathlib import Path

import pytest

from cxrsynth.data import keys
from cxrsynth.data.keys import MOST_BYTES, Keys, safe
from cxrsynth.data.matching import MASKS, match, patient_of
from cxrsynth.data.paths import OutsideError, inside, is_clutter, refuse_overlap, trouble
from cxrsynth.errors import MismatchError, UsageError


def test_names_of_every_script_stay_and_stay_apart() -> None:
    taken = Keys()
    assert [taken.take(name) for name in ("左肺", "右肺", "Ärzte", "p 1")] == ["左肺", "右肺", "Ärzte", "p_1"]


def test_names_that_differ_by_signs_or_case_only_get_keys_of_their_own() -> None:
    taken = Keys()
    found = [taken.take(name, f"{name}.png") for name in ("a b", "a_b", "A_B", "a/b", "é", "e\u0301")]
    keys.check(found)
    assert found[0] == "a_b"


@pytest.mark.parametrize(
    "name", ["x" * 250, "肺" * 100, "...", "", "con", "NUL.png", "\udcff\udcfe", "\n", "a" * 300 + "/b"]
)
def test_a_key_is_a_file_name_anywhere(name: str) -> None:
    key = safe(name)
    assert key == safe(key)
    assert 0 < len(key.encode()) <= MOST_BYTES
    assert not set(key) & set('/\\:*?"<>|\n')


def test_long_names_that_begin_alike_differ() -> None:
    assert safe("x" * 200 + "1") != safe("x" * 200 + "2")


@pytest.mark.parametrize("bad", [["a", "a"], ["a", "A"], ["../a"], ["/a"], ["a/b"], [""], [7], ["a\x1b"]])
def test_the_last_door_refuses_what_is_no_key_or_comes_twice(bad: list[object]) -> None:
    with pytest.raises(MismatchError):
        keys.check(bad)


def test_a_name_is_found_one_folder_higher_or_lower() -> None:
    files = [f"p{i}/study/view1.jpg" for i in range(3)]
    assert match([f"train/{file}" for file in files], files).of == {0: 0, 1: 1, 2: 2}
    assert match(files, [f"images/{file}" for file in files]).of == {0: 0, 1: 1, 2: 2}


def test_a_name_that_several_files_end_with_belongs_to_none() -> None:
    found = match(["1.png"], ["p1/1.png", "p2/1.png"])
    assert (found.of, found.left) == ({}, (0,))


def test_a_row_of_one_folder_is_never_given_to_another() -> None:
    assert match(["p1/1.png"], ["p2/1.png"]).of == {}
    assert match(["p1/1.png"], ["p1/1.png", "p2/1.png"]).of == {0: 0}


def test_endings_and_case_are_looked_past_where_that_is_unique() -> None:
    assert match(["A.PNG", "b", "c\\d.png"], ["a.png", "b.jpg", "c/d.png"]).of == {0: 0, 1: 1, 2: 2}
    assert match(["a"], ["a.png", "a.jpg"]).of == {}


def test_masks_may_say_that_they_are_masks() -> None:
    masks = ["p1/1_mask.png", "p2/1.PNG", "3-seg.png", "other.png"]
    found = match(masks, ["p1/1.jpg", "p2/1.jpg", "3.jpg"], MASKS)
    assert found.of == {0: 0, 1: 1, 2: 2}
    assert found.left == (3,)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("00000013_005.png", "00000013"),
        ("patient00032/study1/view1.jpg", "patient00032"),
        ("files/p10/p10000032/s1/x.jpg", "p10000032"),
        ("image_001.png", ""),
        ("a.png", ""),
    ],
)
def test_patients_in_the_names_of_public_collections_are_recognised(name: str, patient: str) -> None:
    assert patient_of(name) == patient


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "C:\\x", "\\\\host\\x", "a\n", "", None, 3, ["a"]]
)
def test_a_path_from_a_file_that_leaves_its_folder_is_refused(tmp_path: Path, path: object) -> None:
    with pytest.raises(OutsideError):
        inside(tmp_path, path)


def test_a_link_may_lead_about_in_the_folder_but_not_out(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "images/a.png").touch()
    (tmp_path / "private.png").touch()
    (root / "in").symlink_to("images")
    (root / "out").symlink_to("..")
    (root / "loop").symlink_to("loop")
    assert inside(root, "in/a.png").exists()
    for path in ("out/private.png", "loop", "loop/a.png"):
        with pytest.raises(OutsideError, match="link"):
            inside(root, path)


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert trouble(tmp_path / "file") == ""
    assert "pipe" in trouble(tmp_path / "pipe")
    assert "device" in trouble(Path("/dev/zero"))
    assert "missing" in trouble(tmp_path / "gone")
    assert "long" in trouble(tmp_path / ("x" * 300))
    assert "folder" in trouble(tmp_path)


def test_what_a_desktop_leaves_is_no_data() -> None:
    assert all(is_clutter(Path(name)) for name in ("._a.png", "__MACOSX/a.png", ".ipynb_checkpoints/a-checkpoint.png"))
    assert not is_clutter(Path("p1/a.png"))


def test_the_output_never_lies_in_the_input(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "out", tmp_path / "x/.."):
        with pytest.raises(UsageError, match="what is read"):
            refuse_overlap(tmp_path, out)
    refuse_overlap(tmp_path / "in", tmp_path / "out")
