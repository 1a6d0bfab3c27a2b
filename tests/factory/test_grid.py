"""A grid varies two words and nothing else."""

from pathlib import Path

import pytest
from PIL import Image

from cxrsynth.errors import UsageError
from cxrsynth.factory.grid import cells, draw_grid, recipe_of
from cxrsynth.recipe import parse
from tests.conftest import cli, latent_body, phantom_body

TEMPLATE = "Chest X-ray. {row} {col} effusion."


def test_every_cell_has_the_same_noises_and_its_own_words() -> None:
    specs = cells(parse(phantom_body()), TEMPLATE, ["mild", "severe"], ["left", "right"], seeds=4)
    assert len({one.prompt for one in specs}) == 4
    assert [one.seed for one in specs[:4]] == [one.seed for one in specs[-4:]]
    assert len({one.seed for one in specs}) == 4


@pytest.mark.parametrize("template", ["no places", "{row} only", "{row} {col} {size}", "{row} {col"])
def test_a_prompt_without_both_places_is_refused(template: str) -> None:
    with pytest.raises(UsageError):
        cells(parse(phantom_body()), template, ["a"], ["b"], 1)


def test_a_model_folder_is_generated_with_the_settings_of_the_lung_recipe(tiny: Path) -> None:
    assert recipe_of(str(tiny), None, offline=True).model == str(tiny)
    assert recipe_of("phantom", None, offline=True).generator == "phantom"


def test_a_chain_that_asks_another_network_is_no_obstacle(tiny: Path) -> None:
    recipe = parse(latent_body(tiny, masks={"refine": ["mask_head"]}))
    sheet = draw_grid(recipe, cells(recipe, TEMPLATE, ["mild"], ["left"], 1), 1, device="cpu", offline=True)
    assert min(sheet.size) > 64


def test_a_name_that_is_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="neither a recipe nor a model"):
        recipe_of("nothing", None, offline=True)


def test_the_command_writes_a_sheet_with_a_cell_for_every_pair_of_words(tmp_path: Path) -> None:
    words = ["--prompt", "{col} chest x-ray, {row}", "--set", "sampler.height=64", "--set", "sampler.width=64"]
    for name, rows, cols in (("one.png", "normal heart size", "PA"), ("four.png", "clear lungs,cardiomegaly", "PA,AP")):
        done = cli("grid", "phantom", "--rows", rows, "--cols", cols, *words, "-o", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
    (one_wide, one_high), (wide, high) = (Image.open(tmp_path / name).size for name in ("one.png", "four.png"))
    assert wide > 1.7 * one_wide
    assert high > 1.7 * one_high
