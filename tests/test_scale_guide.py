"""The guide to many machines: its job files say what the command line understands."""

import re
from pathlib import Path

import pytest
import typer
import yaml

from cxrsynth.cli import app
from cxrsynth.cli.generate import parse_part
from cxrsynth.errors import UsageError
from cxrsynth.lock import writing

TEXT = (Path(__file__).parent.parent / "docs/guide/scale.md").read_text(encoding="utf-8")
OPTIONS = {
    word
    for option in typer.main.get_command(app).commands["generate"].params  # type: ignore[attr-defined]
    for word in option.opts
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_every_option_of_the_examples_is_one_of_generate() -> None:
    commands = re.findall(r"cxrsynth generate (?:[^\n]*\\\n)*[^\n]*", "\n".join(blocks("sh")))
    assert len(commands) == 2
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", " ".join(commands))) <= OPTIONS


def test_a_task_of_the_slurm_array_makes_one_part() -> None:
    (script,) = (block for block in blocks("sh") if "#SBATCH" in block)
    shard = re.search(r'--shard "([^"]+)"', script)
    assert shard is not None
    first, last = re.search(r"--array=(\d+)-(\d+)", script).groups()  # type: ignore[union-attr]
    count = int(last) - int(first) + 1
    for task in range(count):
        said = shard[1].replace("$SLURM_ARRAY_TASK_ID", str(task)).replace("$SLURM_ARRAY_TASK_COUNT", str(count))
        assert parse_part(said) == (task, count)


def test_the_kubernetes_job_has_as_many_completions_as_parts() -> None:
    (text,) = blocks("yaml")
    job = yaml.safe_load(text)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    assert words[:2] == ["cxrsynth", "generate"]
    assert {word for word in words if word.startswith("-")} <= OPTIONS
    part = words[words.index("--shard") + 1].replace("$(JOB_COMPLETION_INDEX)", "7")
    assert (job["completionMode"], parse_part(part)) == ("Indexed", (7, job["completions"]))
    names = {mount["name"] for mount in container["volumeMounts"]}
    assert names == {volume["name"] for volume in job["template"]["spec"]["volumes"]}


@pytest.mark.parametrize("address", ["s3://bucket/chest", "gs://bucket/chest", "file:///tmp/chest"])
def test_an_address_is_no_folder(address: str) -> None:
    with pytest.raises(UsageError, match="is an address, not a folder"), writing(Path(address)):
        pass
