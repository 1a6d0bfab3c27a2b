"""JSON, YAML and classes are read within bounds, or refused with what is wrong."""

import json
from pathlib import Path

import pytest

from cxrsynth.data.classes import colours, read_classes
from cxrsynth.data.documents import parse_json, parse_yaml, read_json, read_json_lines, read_text
from cxrsynth.errors import UsageError

LUNG = [{"name": "lung", "id": 1, "phrase": "lung"}]


@pytest.mark.parametrize(
    "body",
    [
        {"classes": LUNG},
        LUNG,
        ["lung"],
        ["Lung"],
        {"classes": [{"name": "lung", "id": "1"}]},
        {"labels": {"background": 0, "lung": 1}},
        {"lung": 1},
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_classes_come_in_many_shapes(tmp_path: Path, body: object, encoding: str) -> None:
    (tmp_path / "classes.json").write_bytes(json.dumps(body).encode(encoding))
    assert read_classes(tmp_path / "classes.json") == LUNG


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"classes":', "line 1"),
        ("[]", "no classes"),
        ("3", "no classes"),
        ('[{"id": 1}]', "no name"),
        ('[{"name": "lung", "id": 300}]', "300"),
        ('[{"name": "lung", "id": 0}]', "'0'"),
        ('[{"name": "lung", "id": true}]', "True"),
        ('[{"name": "lung"}]', "None"),
        ('[{"name": "a", "id": 1}, {"name": "b", "id": 1}]', "two classes"),
        ('[{"name": "a", "id": 1}, {"name": "A", "id": 2}]', "two classes"),
        ('[{"name": "肺", "id": 1}]', "肺"),
        ("[" * 100_000, "JSON"),
        ("1" * 5000, "JSON"),
    ],
)
def test_classes_that_are_none_are_refused_by_what_is_wrong(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "classes.json").write_text(body)
    with pytest.raises(UsageError, match=said):
        read_classes(tmp_path / "classes.json")


def test_colours_of_classes_are_read_in_two_forms(tmp_path: Path) -> None:
    found = [{"name": "a", "id": 1, "colour": "#ff0000"}, {"name": "b", "id": 2, "color": [0, 255, 0]}]
    assert colours(tmp_path, found) == {(255, 0, 0): 1, (0, 255, 0): 2}
    with pytest.raises(UsageError, match="red"):
        colours(tmp_path, [{"name": "a", "id": 1, "colour": "red"}])


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


TRAPS = [BOMB, "[" * 5000, "a: " * 3000, "a: [1", "d: 2024-99-99", "a: &a [*a]", "!!python/object:os.system {}"]


@pytest.mark.parametrize("text", TRAPS)
def test_a_yaml_trap_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError):
        parse_yaml(text, "recipe.yaml")


def test_plain_yaml_with_an_alias_is_read() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x", "recipe.yaml") == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "big.json", "wb") as file:
        file.truncate(2**40)  # a hole: it takes no room
    with pytest.raises(UsageError, match="MiB"):
        read_json(tmp_path / "big.json")


def test_a_device_is_no_document() -> None:
    with pytest.raises(UsageError, match="device"):
        read_text(Path("/dev/zero"))


def test_a_json_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n\n[2]\n')
    with pytest.raises(UsageError, match="line 3"):
        list(read_json_lines(tmp_path / "x.jsonl"))
    with pytest.raises(UsageError, match="line 7"):
        parse_json("\n" * 6 + "x", "x")
