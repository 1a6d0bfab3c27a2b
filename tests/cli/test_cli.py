"""The command line: two-line errors with the next thing to type, exit codes, JSON on stdout."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrsynth.cli import app
from cxrsynth.cli.generate import parse_part
from cxrsynth.errors import UsageError
from tests.conftest import cli, latent_body, phantom_body, tree


def test_an_error_is_two_lines_without_a_traceback(write_recipe: Any, tmp_path: Path) -> None:
    result = cli("generate", "-p", write_recipe(phantom_body(promts=1)), "-o", tmp_path / "d")
    assert result.returncode == 2
    assert re.fullmatch(r"error: .*promts.*\n  try: .*\n", result.stderr)


def test_a_recipe_may_be_named_without_its_option_and_beats_the_environment(
    write_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRSYNTH_PROMPTS", "lung")
    recipe = write_recipe(phantom_body(count=1))
    first = cli("generate", recipe, "-o", tmp_path / "d")
    assert first.returncode == 0, first.stderr
    assert "1 of 1 slot filled" in cli("generate", "--prompts", recipe, "-o", tmp_path / "d").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["generate"], 2, "--prompts"),
        (["generate", "-p", "lungs"], 2, "bundled recipes"),
        (["generate", "phantom", "-p", "lung"], 2, "two recipes"),
        (["generate", "-p", "phantom", "--engine", "slurm"], 2, "local"),
        (["generate", "-p", "phantom", "--shard", "4/4"], 2, "0/4"),
        (["generate", "-p", "lung", "--model", "maxi"], 2, "mini"),
        (["generate", "-p", "lung", "--model", "./nowhere"], 4, "nowhere"),
        (["generate", "-p", "phantom", "--device", "cuda:77"], 2, "cuda:77"),
        (["status", "."], 2, "not a cxrsynth dataset"),
        (["nonsense"], 2, "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_has_its_exit_code_and_says_what_would_be_right(
    arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    result = cli(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_prompt_over_the_token_limit_is_said_before_the_run(tiny: Path, write_recipe: Any, tmp_path: Path) -> None:
    result = cli(
        "generate", "-p", write_recipe(latent_body(tiny, prompts={"templates": ["heart " * 90]})), "-o", tmp_path / "d"
    )
    assert result.returncode == 2
    assert "92 tokens, the model reads 77" in result.stderr
    assert not (tmp_path / "d").exists()


def test_a_model_without_a_unet_names_the_part(tiny: Path, write_recipe: Any, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "m")
    shutil.rmtree(tmp_path / "m/unet")
    result = cli("generate", "-p", write_recipe(latent_body(tmp_path / "m")), "-o", tmp_path / "d")
    assert result.returncode == 4
    assert "unet" in result.stderr


def test_another_recipe_in_the_same_folder_exits_5_with_the_difference(
    phantom_dataset: Path, write_recipe: Any
) -> None:
    before = tree(phantom_dataset)
    result = cli("generate", "-p", write_recipe(phantom_body(seed=9)), "-o", phantom_dataset)
    assert result.returncode == 5
    assert "seed: 0 -> 9" in result.stderr
    assert tree(phantom_dataset) == before


def test_a_folder_that_cannot_be_written_is_said(write_recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = cli("generate", "-p", write_recipe(phantom_body()), "-o", tmp_path / "file" / "d")
    assert result.returncode == 2
    assert "cannot write" in result.stderr


def test_generate_writes_json_to_stdout_and_nothing_else(write_recipe: Any, tmp_path: Path) -> None:
    result = cli("generate", "-p", write_recipe(phantom_body()), "-o", tmp_path / "d", "--json")
    assert json.loads(result.stdout)["kept"] == 6


def test_generate_writes_what_the_design_says(write_recipe: Any, tmp_path: Path) -> None:
    cli("generate", "-p", write_recipe(phantom_body()), "-o", tmp_path / "d")
    made = {path.name for path in (tmp_path / "d").iterdir() if not path.name.startswith(".")}
    wanted = {
        "recipe.yaml",
        "images",
        "masks",
        "maps",
        "meta",
        "shards",
        "rejected",
        "classes.json",
        "README.md",
        "croissant.json",
        "report.html",
        "runs",
    }
    assert wanted <= made
    mask = Image.open(tmp_path / "d/masks/00000/000000000.png")
    assert mask.mode == "L"
    assert set(np.unique(np.asarray(mask))) == {0, 1, 2, 3}


def test_the_same_command_writes_the_pages_that_a_killed_run_did_not(write_recipe: Any, tmp_path: Path) -> None:
    recipe = write_recipe(phantom_body())
    cli("generate", "-p", recipe, "-o", tmp_path / "d")
    pages = [tmp_path / "d" / name for name in ("preview.png", "README.md", "report.html")]
    for page in pages:
        page.unlink()
    cli("generate", "-p", recipe, "-o", tmp_path / "d")
    assert [page.exists() for page in pages] == [True] * 3


def test_a_dry_run_writes_nothing(write_recipe: Any, tmp_path: Path) -> None:
    result = cli("generate", "-p", write_recipe(phantom_body()), "-o", tmp_path / "d", "--dry-run", "--json")
    assert json.loads(result.stdout)["todo"] == [0, 1]
    assert not (tmp_path / "d").exists()


def test_count_comes_from_the_environment(write_recipe: Any, tmp_path: Path) -> None:
    result = cli(
        "generate", "-p", write_recipe(phantom_body()), "-o", tmp_path / "d", "--json", env={"CXRSYNTH_COUNT": "2"}
    )
    assert json.loads(result.stdout)["kept"] == 2


def test_quiet_says_nothing_when_all_is_well(write_recipe: Any, tmp_path: Path) -> None:
    assert cli("-q", "generate", "-p", write_recipe(phantom_body(count=1)), "-o", tmp_path / "d").stderr == ""


def test_status_counts_what_is_there(phantom_dataset: Path) -> None:
    found = json.loads(cli("status", phantom_dataset, "--json").stdout)
    assert (found["shards_done"], found["shards"], found["kept"]) == (2, 2, 6)


def test_verify_exits_5_and_names_the_file(phantom_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_dataset, tmp_path / "d")
    assert cli("verify", tmp_path / "d").returncode == 0
    (tmp_path / "d/masks/00001/000000004.png").write_bytes(b"")
    result = cli("verify", tmp_path / "d")
    assert result.returncode == 5
    assert "masks/00001/000000004.png" in result.stderr


def test_check_shows_prompts_and_writes_nothing(tmp_path: Path) -> None:
    result = cli("check", "phantom", cwd=tmp_path)
    assert result.returncode == 0
    assert "frontal chest x-ray" in result.stderr
    assert not list(tmp_path.iterdir())


def test_preview_writes_a_picture(tmp_path: Path) -> None:
    assert (
        cli(
            "preview", "phantom", "-n", "2", "--set", "sampler.height=64", "--set", "sampler.width=64", cwd=tmp_path
        ).returncode
        == 0
    )
    assert Image.open(tmp_path / "preview-phantom.png").width > 300


def test_new_copies_a_recipe_and_never_over_another_file(tmp_path: Path) -> None:
    assert cli("new", "lung", "mine.yaml", cwd=tmp_path).returncode == 0
    assert "name: lung" in (tmp_path / "mine.yaml").read_text()
    assert cli("new", "lung", "mine.yaml", cwd=tmp_path).returncode == 2


def test_the_schema_knows_every_key_of_the_recipe() -> None:
    schema = json.loads(cli("info", "--schema").stdout)
    assert {"name", "sampler", "attention", "masks", "curate", "split"} <= schema["properties"].keys()


def test_recipes_lists_what_is_bundled() -> None:
    names = {item["name"] for item in json.loads(cli("recipes", "--json").stdout)}
    assert {"lung", "findings", "phantom"} <= names


@pytest.mark.parametrize("text", ["1", "a/b", "2/2", "-1/2", "1/0"])
def test_a_part_has_to_be_i_of_n(text: str) -> None:
    with pytest.raises(UsageError):
        parse_part(text)


def test_every_command_explains_itself() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__, command.name


def test_alone_it_shows_four_commands_and_where_the_rest_is() -> None:
    result = cli()
    assert result.returncode == 0
    assert len(re.findall(r"^  cxrsynth \w", result.stdout, re.MULTILINE)) == 4
    assert "--help" in result.stdout


def test_open_shows_the_report_in_a_browser(
    phantom_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: not seen.append(address))
    shutil.copytree(phantom_dataset, tmp_path / "d")
    assert cli("open", tmp_path / "d").returncode == 0
    assert seen == [(tmp_path / "d/report.html").as_uri()]
    assert cli("open", tmp_path).returncode == 2
    assert len(seen) == 1


def test_counts_reasons_and_waiting_are_said_in_words(tiny: Path, write_recipe: Any, tmp_path: Path) -> None:
    checks = [{"use": "area", "ranges": {"heart": [0.8, 0.9]}}]
    body = latent_body(tiny, count=1, shard=1, curate={"checks": checks, "attempts": 1})
    said = cli("generate", "-p", write_recipe(body), "-o", tmp_path / "d").stderr
    assert "1 slot in 1 shard," in said
    assert "loading model" in said
