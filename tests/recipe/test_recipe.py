"""Recipes are checked when they are loaded, and say which key or name would be right."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cxrsynth.errors import RecipeError
from cxrsynth.recipe import bundled_recipes, fingerprint, load, parse
from tests.conftest import phantom_body


def test_every_bundled_recipe_loads() -> None:
    found = {path.stem: load(path) for path in bundled_recipes().glob("*.yaml")}
    assert {"lung", "findings", "phantom"} <= found.keys()


@pytest.mark.parametrize("path", sorted(bundled_recipes().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_bundled_recipe_opens_with_the_command_that_runs_it(path: Path) -> None:
    assert f"#   cxrsynth generate --prompts recipes/{path.name}" in path.read_text().splitlines()[:3]


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"sampler\.steps: unknown key; known here: .*num_inference_steps"):
        parse(phantom_body(sampler={"steps": 5}))


def test_an_unknown_key_at_the_top_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"promts: unknown key; known here: .*prompts"):
        parse(phantom_body(promts={}))


def test_an_unknown_refiner_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"unknown refiner 'crff'; did you mean 'crf'.*morphology"):
        parse(phantom_body(masks={"refine": ["crff"]}))


def test_a_typo_in_a_refiner_lists_its_fields() -> None:
    with pytest.raises(RecipeError, match=r"iteration: unknown key; known here: .*iterations"):
        parse(phantom_body(masks={"refine": [{"use": "crf", "iteration": 5}]}))


def test_an_unknown_check_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"unknown check 'areas'.*stability"):
        parse(phantom_body(curate={"checks": ["areas"]}))


def test_an_unknown_generator_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"unknown generator 'fantom'.*latent, phantom"):
        parse(phantom_body(generator="fantom"))


@pytest.mark.parametrize("what", ["name", "id", "phrase"])
def test_two_classes_with_the_same_identity_are_refused(what: str) -> None:
    one = {"name": "a", "id": 1, "phrase": "x"}
    other = {"name": "b", "id": 2, "phrase": "y", what: one[what]}
    with pytest.raises(RecipeError, match=f"share the {what}"):
        parse(phantom_body(classes=[one, other]))


def test_a_template_word_without_vocabulary_is_named() -> None:
    with pytest.raises(RecipeError, match=r"\{view\}, which is not in vocabulary"):
        parse(phantom_body(prompts={"templates": ["{view} view"]}))


def test_exactly_one_source_of_prompts_is_asked_for() -> None:
    with pytest.raises(RecipeError, match="exactly one of templates, csv, text"):
        parse(phantom_body(prompts={"templates": ["a"], "text": "b.txt"}))


def test_the_resolved_recipe_shows_every_default_of_an_entry() -> None:
    recipe = parse(phantom_body(masks={"refine": ["crf"]}))
    assert recipe.resolved()["masks"]["refine"][0]["iterations"] >= 1


def test_the_resolved_recipe_is_a_recipe_with_the_same_fingerprint() -> None:
    recipe = parse(phantom_body())
    again = parse(yaml.safe_load(yaml.safe_dump(recipe.resolved())))
    assert fingerprint(again, "w") == fingerprint(recipe, "w")


@pytest.mark.parametrize("change", [{"name": "other"}, {"count": 99}, {"card": {"title": "T"}}])
def test_what_changes_no_byte_changes_no_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(parse(phantom_body(**change)), "") == fingerprint(parse(phantom_body()), "")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"shard": 4},
        {"sampler": {"height": 128, "width": 128, "batch": 3}},
        {"masks": {"refine": []}},
        {"curate": {"attempts": 9}},
        {"negative_prompt": "x"},
    ],
    ids=str,
)
def test_what_may_change_a_byte_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(parse(phantom_body(**change)), "") != fingerprint(parse(phantom_body()), "")


def test_other_weights_change_the_fingerprint() -> None:
    assert fingerprint(parse(phantom_body()), "a") != fingerprint(parse(phantom_body()), "b")


def test_an_edited_prompt_file_changes_the_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    prints = []
    for text in ("one\n", "two\n"):
        file.write_text(text)
        prints.append(fingerprint(parse(phantom_body(prompts={"text": str(file)})), ""))
    assert prints[0] != prints[1]


def test_set_reaches_into_lists_and_reads_yaml(write_recipe: Any) -> None:
    path = write_recipe(phantom_body())
    recipe = load(
        path, {}, ["classes.0.phrase=the right lung", "sampler.batch=7", "masks.refine=[{use: crf, iterations: 2}]"]
    )
    assert recipe.classes[0].phrase == "the right lung"
    assert recipe.sampler.batch == 7
    assert recipe.masks.refine[0]["iterations"] == 2


@pytest.mark.parametrize("assignment", ["sampler.batch", "classes.9.phrase=x", "=3"])
def test_a_set_that_cannot_be_carried_out_is_refused(write_recipe: Any, assignment: str) -> None:
    with pytest.raises(RecipeError):
        load(write_recipe(phantom_body()), {}, [assignment])


def test_a_missing_recipe_lists_the_bundled_ones() -> None:
    with pytest.raises(RecipeError) as error:
        load(Path("recipes/lungs.yaml"))
    assert "lung" in error.value.hint


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\nclasses: [\n")
    with pytest.raises(RecipeError, match="line 3"):
        load(path)


def test_a_prompt_file_is_found_beside_the_recipe(write_recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a chest\n")
    recipe = load(write_recipe(phantom_body(prompts={"text": "prompts.txt"})))
    assert recipe.prompts.text == tmp_path / "prompts.txt"
