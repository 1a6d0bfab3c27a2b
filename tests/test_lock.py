"""One writer a folder, whatever it writes; jobs of one array write beside each other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cxrsynth.errors import UsageError
from cxrsynth.lock import writing

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
            with writing(tmp_path / "out", second):
                pass
        else:
            with pytest.raises(UsageError, match="another"), writing(tmp_path / "out", second):
                pass
    with writing(tmp_path / "out", second):
        pass


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
        with writing(tmp_path, (1, 2)):
            assert all(path.exists() for path in left)


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file/out"), writing(tmp_path / "file/out"):
        pass
