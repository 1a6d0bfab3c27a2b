"""A table is read whole, whatever program wrote it, or refused with its line."""

from pathlib import Path

import pytest

from cxrsynth.data.tables import age, read_table, spacing, split_name
from cxrsynth.errors import UsageError

BODY = "file,patient,caption\na.png,p1,Opacité basale.\nb.png,p2,Normal.\n"


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "metadata.csv"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_encoding_and_delimiter_gives_the_same_rows(
    tmp_path: Path, encoding: str, delimiter: str, newline: str
) -> None:
    body = BODY.replace(",", delimiter).replace("\n", newline)
    table = read_table(write(tmp_path, body.encode(encoding)), ["file"])
    assert table.columns == ("file", "patient", "caption")
    assert [row["caption"] for row in table.rows] == ["Opacité basale.", "Normal."]
    assert any("Windows-1252" in note for note in table.notes) == (encoding == "cp1252")


def test_excels_own_first_line_names_the_delimiter(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, b"sep=;\nfile;caption\na.png;one, two\n"))
    assert table.rows == ({"file": "a.png", "caption": "one, two"},)
    assert table.where(0).endswith("line 3")


def test_an_unquoted_comma_is_refused_with_its_line_and_a_quoted_one_is_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 3 has 3 cells") as error:
        read_table(write(tmp_path, b"prompt,view\nNormal,AP\nChest, no finding,PA\n"))
    assert "quotes" in error.value.hint
    table = read_table(write(tmp_path, b'prompt,view\n"Chest, no finding",PA\n'))
    assert table.rows[0]["prompt"] == "Chest, no finding"


def test_a_line_cut_short_is_refused_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 3 has 1 cells"):
        read_table(write(tmp_path, b"file,patient\na,b\nc\n"))


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, b'file,caption\na,"two\nlines"\n\nb,one\n'))
    assert [table.where(i).rpartition(" ")[2] for i in (0, 1)] == ["2", "5"]


def test_empty_columns_and_lines_at_the_end_are_no_matter(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, b",file,caption,,\n0,a,x,,\n,,,,\n"))
    assert table.rows == ({"file": "a", "caption": "x"},)


def test_columns_that_a_dataset_fills_are_set_aside_and_said(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, b"file,mask,maps,view\na,/etc/passwd,x,PA\n"), reserved=True)
    assert table.rows == ({"file": "a", "given_mask": "/etc/passwd", "given_maps": "x", "view": "PA"},)
    assert len(table.notes) == 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"file,file\na,b\n", "twice"),
        (b'file\n"a\n', "line"),
        (b"image\na\n", "no column 'file'"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "no text"),
        (b"file\n" + b"x" * (2**20 + 1), "line 2"),
    ],
)
def test_what_is_no_table_is_an_error_that_names_it(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_table(write(tmp_path, data), ["file"])


def test_a_needed_column_is_found_whatever_its_case(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, b"File,Caption\na,b\n"), ["file"]).rows == ({"file": "a", "Caption": "b"},)


@pytest.mark.parametrize(
    ("word", "split"), [("TRAIN", "train"), ("valid", "val"), ("Testing ", "test"), ("dev", "val"), ("", "")]
)
def test_splits_have_many_names(word: str, split: str) -> None:
    assert split_name(word) == split


def test_a_split_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="fold3"):
        split_name("fold3")


@pytest.mark.parametrize(
    ("word", "years"),
    [("058Y", 58), ("006M", 0.5), ("58", 58), ("58,5", 58.5), ("7 years", 7), ("", None), ("NA", None)],
)
def test_ages_are_years(word: str, years: float | None) -> None:
    assert age(word) == years


@pytest.mark.parametrize("word", ["old", "-3", "058X", "1e9", "400", "nan years"])
def test_an_age_nobody_has_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="age"):
        age(word)


@pytest.mark.parametrize(
    ("text", "mm"),
    [
        ("", None), ("n/a", None), ("0.143", [0.143, 0.143]), ("0,143 mm", [0.143, 0.143]), ("0.2 0.1", [0.2, 0.1]),
        ("0.2\\0.1", [0.2, 0.1]), ("[0.2, 0.1]", [0.2, 0.1]), ("0,2 x 0,1", [0.2, 0.1]),
    ],
)  # fmt: skip
def test_pixel_spacing_is_millimetres_of_rows_and_columns(text: str, mm: list[float] | None) -> None:
    assert spacing(text) == mm


@pytest.mark.parametrize("text", ["0", "-1", "90", "wide", "1 2 3"])
def test_a_spacing_that_no_pixels_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pixel spacing"):
        spacing(text)
