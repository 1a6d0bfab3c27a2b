"""Recipes, datasets and commands written with the names of earlier versions keep working."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxrsynth.compare.recipe import CompareRecipe
from cxrsynth.data.patients import patients_seen
from cxrsynth.evaluate.chains import load_chains
from cxrsynth.recipe import fingerprint, load, parse
from cxrsynth.recipe.legacy import arguments
from cxrsynth.recipe.settings import load_as
from cxrsynth.train.recipe import ModelRecipe
from cxrsynth.train.tasks.affinity.config import AffinityConfig
from cxrsynth.train.tasks.segment.config import SegmentConfig
from tests.conftest import phantom_body

OLD_CHAIN = [{"use": "decoder", "head": "mini"}, "laterality"]


def test_a_recipe_that_names_the_decoder_gets_the_mask_head(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(phantom_body(masks={"refine": OLD_CHAIN})))
    assert [entry["use"] for entry in load(file).masks.refine] == ["mask_head", "laterality"]


def test_a_dataset_made_with_the_old_names_keeps_its_fingerprint() -> None:
    old = parse(phantom_body(masks={"refine": OLD_CHAIN}))
    new = parse(phantom_body(masks={"refine": [{"use": "mask_head", "head": "mini"}, "laterality"]}))
    assert fingerprint(old, "") == fingerprint(new, "")


def test_a_dataset_whose_recipe_has_the_old_names_can_be_labelled_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(phantom_body(masks={"refine": OLD_CHAIN})))
    chains = tmp_path / "chains.yaml"
    chains.write_text(yaml.safe_dump({"chains": {"old": {"refine": OLD_CHAIN}}}))
    assert list(load_chains(chains, tmp_path)) == ["old"]


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        (ModelRecipe, {"films": {"fit": "squash"}}, {"images": {"fit": "squash"}}),
        (ModelRecipe, {"augment": {"films": {"nih": 5}}}, {"augment": {"images": {"nih": 5}}}),
        (ModelRecipe, {"adapt": {"validation_films": 7}}, {"training": {"validation_images": 7}}),
        (ModelRecipe, {"adapt": {"steps": 9, "sheet_every": 3, "log_every": 2}}, {"training": {"updates": 9}}),
        (ModelRecipe, {"vae": {"steps": 9}, "diffusion": {"steps": 5}}, {"training": {"updates": 5}}),
        (ModelRecipe, {"grounding": {"films_per_batch": 2}}, {"grounding": {"images_per_batch": 2}}),
        (SegmentConfig, {"validate_every": 3}, {"look_every": 3}),
        (AffinityConfig, {"steps": 9, "check_every": 3}, {"updates": 9, "look_every": 3}),
        (
            CompareRecipe,
            {"real": "a", "synthetic": "b", "tests": [{"data": "c"}], "synthetic_films": [3]},
            {"synthetic_images": [3]},
        ),
    ],
)
def test_old_fields_of_a_configuration_are_read(kind: Any, body: dict[str, Any], found: dict[str, Any]) -> None:
    made = kind.model_validate(body).model_dump(mode="json")
    for name, value in found.items():
        part = made[name]
        assert {key: part[key] for key in value} == value if isinstance(value, dict) else part == value


def test_an_old_field_given_on_the_command_line_changes_one_value_of_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump({"images": {"fit": "squash"}}))
    images = load_as(ModelRecipe, file, {"films.size": 64}).images
    assert (images.fit, images.size) == ("squash", 64)


def test_patients_of_a_network_trained_earlier_are_known(tmp_path: Path) -> None:
    (tmp_path / "films.json").write_text(json.dumps({"train": ["clinic/1"], "val": []}))
    assert patients_seen(tmp_path)["train"] == ["clinic/1"]


def test_old_commands_and_options_are_understood() -> None:
    old = ["train-decoder", "DATA", "--films=8", "-o", "x.safetensors"]
    assert arguments(old) == ["train-mask-head", "DATA", "--images=8", "-o", "x.safetensors"]
