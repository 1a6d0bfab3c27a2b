"""A Spec depends on the recipe and its index alone."""

import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from cxrsynth.data.lines import read_lines
from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.factory.prompts import asked_for, spec
from cxrsynth.recipe import ClassSpec, identity, parse
from tests.conftest import phantom_body


def test_neighbouring_recipe_seeds_share_no_noise() -> None:
    seeds = [{spec(parse(phantom_body(seed=s)), index).seed for index in range(200)} for s in (0, 1)]
    assert not seeds[0] & seeds[1]


def test_a_redrawn_slot_keeps_its_prompt_and_changes_its_noise() -> None:
    recipe = parse(phantom_body())
    first, again = spec(recipe, 3), spec(recipe, 3, attempt=1)
    assert (first.prompt, first.split) == (again.prompt, again.split)
    assert first.seed != again.seed


def test_raising_count_changes_no_spec() -> None:
    assert spec(parse(phantom_body(count=10)), 4) == spec(parse(phantom_body(count=10_000)), 4)


def test_words_are_generated_by_their_weights() -> None:
    recipe = parse(phantom_body(prompts={"templates": ["{view}"], "vocabulary": {"view": {"PA": 3, "AP": 1}}}))
    counts = Counter(spec(recipe, index).prompt for index in range(2000))
    assert 0.70 < counts["PA"] / 2000 < 0.80


def test_splits_have_their_shares() -> None:
    counts = Counter(spec(parse(phantom_body()), index).split for index in range(2000))
    assert 0.77 < counts["train"] / 2000 < 0.83


def test_a_csv_gives_prompts_in_order_and_fields(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,view\nfirst,PA\nsecond,AP\n")
    recipe = parse(phantom_body(prompts={"csv": str(tmp_path / "p.csv")}))
    assert [spec(recipe, index).prompt for index in range(3)] == ["first", "second", "first"]
    assert spec(recipe, 1).fields == {"view": "AP"}


def test_a_text_file_gives_a_prompt_a_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("first\n\nsecond\n")
    recipe = parse(phantom_body(prompts={"text": str(tmp_path / "p.txt")}))
    assert [spec(recipe, index).prompt for index in range(2)] == ["first", "second"]


def test_a_long_list_of_prompts_stays_on_the_disk(tmp_path: Path) -> None:
    number = 20_000
    with open(tmp_path / "p.txt", "w") as file:
        for index in range(number):
            file.write(f"prompt {index}, " + "no pleural effusion " * 10 + "\n\n")
    recipe = parse(phantom_body(prompts={"text": str(tmp_path / "p.txt")}))
    tracemalloc.start()
    assert [spec(recipe, index).prompt.split(",")[0] for index in (0, number - 1, number)] == [
        "prompt 0",
        f"prompt {number - 1}",
        "prompt 0",
    ]
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < (tmp_path / "p.txt").stat().st_size / 5


@pytest.mark.parametrize(
    ("data", "prompts"),
    [
        (b"one\r\n\r\ntwo", ["one", "two"]),
        ("\ufeffone\ntwo\n".encode(), ["one", "two"]),
        ("one\ntwo\n".encode("utf-16"), ["one", "two"]),
        ("opacité\ntwo\n".encode("cp1252"), ["opacité", "two"]),
        (b"one\rtwo\r", ["one", "two"]),
    ],
)
def test_a_list_is_read_in_any_usual_encoding(data: bytes, prompts: list[str], tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(data)
    assert list(read_lines(tmp_path / "p.txt")) == prompts


def test_a_list_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    lines = read_lines(tmp_path / "p.txt")
    (tmp_path / "p.txt").write_text("three\nfour\nfive\n")
    with pytest.raises(UsageError, match="changed while it was read"):
        lines[0]


def test_prompts_of_a_csv_are_taken_by_their_weights(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,often,view\nfirst,3,PA\nsecond,1,AP\nnever,0,AP\n")
    recipe = parse(phantom_body(prompts={"csv": str(tmp_path / "p.csv"), "weight": "often"}))
    counts = Counter(spec(recipe, index).prompt for index in range(2000))
    assert 0.70 < counts["first"] / 2000 < 0.80
    assert set(counts) == {"first", "second"}
    assert set(spec(recipe, 0).fields) == {"view"}
    plain = parse(phantom_body(prompts={"csv": str(tmp_path / "p.csv")}))
    assert "weight" not in identity(plain, "")["prompts"]


@pytest.mark.parametrize(("column", "said"), [("rare", "no column 'rare'"), ("view", "could not convert")])
def test_a_column_that_holds_no_weights_is_refused(column: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,view\nfirst,PA\nsecond,AP\n")
    with pytest.raises(RecipeError, match=said):
        spec(parse(phantom_body(prompts={"csv": str(tmp_path / "p.csv"), "weight": column})), 0)


def test_a_csv_without_a_prompt_column_names_its_columns(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("text,view\nfirst,PA\n")
    with pytest.raises(RecipeError, match="no column 'prompt'") as error:
        spec(parse(phantom_body(prompts={"csv": str(tmp_path / "p.csv")})), 0)
    assert "text, view" in error.value.hint


@pytest.mark.parametrize(
    ("prompt", "there"),
    [
        ("left pleural effusion", True),
        ("no pleural effusion", False),
        ("no pneumothorax, pleural effusion", True),
        ("without pleural effusion", False),
        ("clear lungs", False),
        ("pleural effusions", False),
    ],
)
def test_an_optional_class_is_there_when_the_prompt_asks_for_it(prompt: str, there: bool) -> None:
    item = ClassSpec(name="effusion", id=1, phrase="pleural effusion", optional=True)
    assert asked_for(item, prompt) is there


def test_slots_of_one_prompt_differ_in_noise_and_stay_in_one_split() -> None:
    recipe = parse(phantom_body(prompts={**phantom_body()["prompts"], "each": 4}))
    specs = [spec(recipe, index) for index in range(40)]
    for start in range(0, 40, 4):
        four = specs[start : start + 4]
        assert len({(one.prompt, one.split) for one in four}) == 1
        assert len({one.seed for one in four}) == 4


def test_one_picture_per_prompt_leaves_older_datasets_their_fingerprint() -> None:
    assert "each" not in identity(parse(phantom_body()), "")["prompts"]
    several = parse(phantom_body(prompts={**phantom_body()["prompts"], "each": 2}))
    assert identity(several, "")["prompts"]["each"] == 2


def test_a_negative_prompt_of_a_csv_row_wins_over_the_recipes(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,negative_prompt\nfirst,tubes\nsecond,\n")
    recipe = parse(phantom_body(prompts={"csv": str(tmp_path / "p.csv")}, negative_prompt="letters"))
    assert [spec(recipe, index).negative_prompt for index in range(2)] == ["tubes", "letters"]
    assert spec(recipe, 0).fields == {}


@pytest.mark.parametrize("seed", range(20))
def test_small_datasets_have_every_split_and_raising_the_count_moves_nobody(seed: int) -> None:
    recipe = parse(phantom_body(seed=seed, count=32))
    splits = [spec(recipe, index).split for index in range(32)]
    assert all(set(splits[start : start + 10]) == {"train", "val", "test"} for start in (0, 10, 20))
    assert [spec(parse(phantom_body(seed=seed, count=64)), index).split for index in range(32)] == splits
