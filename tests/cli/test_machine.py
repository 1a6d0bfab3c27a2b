"""What goes wrong with the machine is an error with its cause, and no bug; progress in a log is short."""

import errno
import os
import resource
import sys
from pathlib import Path

import pytest

from cxrsynth import cli, console
from cxrsynth.console import Meter


def main(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Call the program as a shell does; its exit code."""
    monkeypatch.setattr(sys, "argv", ["cxrsynth", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENAMETOOLONG, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_is_said_with_the_file(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), "data/a.png")

    monkeypatch.setattr(cli, "app", refused)
    assert main(monkeypatch, "anything") == 2
    said = capsys.readouterr().err
    assert os.strerror(number) in said
    assert "data/a.png" in said
    assert "bug" not in said
    assert "Traceback" not in said


def test_offline_reaches_no_cluster_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    words = ("generate", "-p", "phantom", "-o", tmp_path / "d", "--engine", "ray", "--offline")
    assert main(monkeypatch, *words) == 2
    assert "opens no connection" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_a_name_that_is_too_long_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status", "x" * 300], ["verify", "x" * 300], ["check", "x" * 300]):
        assert main(monkeypatch, *words) == 2
        assert "bug" not in capsys.readouterr().err


def test_too_many_open_files_are_no_bug(
    phantom_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.look.state(phantom_dataset)["kept"]  # imports what it needs
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        code = main(monkeypatch, "status", phantom_dataset)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    said = capsys.readouterr().err
    assert code == 2
    assert "Too many open files" in said
    assert "bug" not in said


def test_a_folder_that_may_not_be_looked_into_is_not_an_empty_one(
    phantom_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(place: object) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    monkeypatch.setattr(os, "listdir", refused)  # whoever runs the tests may look everywhere
    assert main(monkeypatch, "status", phantom_dataset) == 2
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("steps", "seconds", "most"), [(1000, 1, 100), (100_000, 1, 100), (10, 3600, 10), (500, 0.01, 0)]
)
def test_progress_in_a_log_is_a_line_a_percent_at_most(
    steps: int, seconds: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, lines = 0.0, []
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    monkeypatch.setattr(console.console, "print", lines.append)
    monkeypatch.setattr(console.console, "quiet", False)
    meter = Meter(steps, "training", _said=0.0, _started=0.0)
    for step in range(steps):
        now += seconds
        meter.set(step + 1)
    assert len(lines) <= most
    assert len(lines) >= most // 2
