"""One writer a folder, whatever it writes; jobs of one array write beside each other."""

import os
import signal
import subprocess
import sys
from contextvars import Context
from pathlib import Path

import pytest

from cxrsynth.errors import UsageError
from cxrsynth.lock import placing, writing


def somebody_else(out: Path, part: tuple[int, int] = (0, 1)) -> None:
    """Try to write there as another command of this process would."""

    def attempt() -> None:
        with writing(out, part):
            pass

    Context().run(attempt)


HOLD = """
import sys, time
from pathlib import Path
from cxrsynth.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ((0, 1), (0, 1), False),
        ((0, 1), (1, 4), False),
        ((1, 4), (0, 1), False),
        ((1, 4), (1, 4), False),
        ((1, 4), (2, 4), True),
        ((1, 4), (1, 8), False),
    ],
)
def test_who_may_write_beside_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: tuple[int, int], second: tuple[int, int], together: bool
) -> None:
    monkeypatch.setattr("cxrsynth.lock.PATIENCE", 0.1)
    with writing(tmp_path / "out", first):
        if together:
            somebody_else(tmp_path / "out", second)
        else:
            with pytest.raises(UsageError, match="another"):
                somebody_else(tmp_path / "out", second)
    somebody_else(tmp_path / "out", second)


def test_a_command_may_ask_again_for_what_it_holds(tmp_path: Path) -> None:
    with writing(tmp_path):
        with writing(tmp_path):
            pass
        with pytest.raises(UsageError, match="another"):
            somebody_else(tmp_path)
    with placing(tmp_path / "a"), placing(tmp_path / "a"), placing(tmp_path / "b"):
        pass


def test_two_cannot_put_the_same_file_or_export_in_its_place(tmp_path: Path) -> None:
    def other() -> None:
        with placing(tmp_path / "coco"):
            pass

    with placing(tmp_path / "coco"), pytest.raises(UsageError, match="another"):
        Context().run(other)
    Context().run(other)


def test_the_lock_of_a_killed_process_is_none(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UsageError, match="another"), writing(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (tmp_path / ".lock").exists()
    with writing(tmp_path):
        pass


def test_what_killed_commands_left_is_swept_and_what_a_neighbour_writes_is_not(tmp_path: Path) -> None:
    left = [tmp_path / name for name in (".run-1", ".tmp-card", "meta/.tmp-0", "images/00000/.tmp-a.png")]

    def leave() -> None:
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    leave()
    with writing(tmp_path):
        assert not any(path.exists() for path in left)
    with writing(tmp_path, (0, 2)):
        leave()
        somebody_else(tmp_path, (1, 2))
        assert all(path.exists() for path in left)


def test_what_lies_in_folders_of_others_is_not_swept(tmp_path: Path) -> None:
    theirs = tmp_path / "another-dataset/.tmp-a"
    theirs.parent.mkdir()
    theirs.touch()
    with writing(tmp_path):
        assert theirs.exists()


def test_a_model_that_was_moved_aside_and_never_replaced_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".tmp-old-model-0123abcd").mkdir()
    (tmp_path / ".tmp-old-model-0123abcd/config.json").touch()
    with writing(tmp_path):
        assert (tmp_path / "model/config.json").exists()


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file/out"), writing(tmp_path / "file/out"):
        pass


@pytest.mark.parametrize("written", [[], ["a"]])
def test_a_command_that_fails_before_it_writes_leaves_no_folder(tmp_path: Path, written: list[str]) -> None:
    def fail() -> None:
        with writing(tmp_path / "out"):
            for name in written:
                (tmp_path / "out" / name).touch()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (tmp_path / "out").exists() == bool(written)
