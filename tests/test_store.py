"""Files appear complete or not at all, and a receipt proves what it names."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from cxrsynth.encoding import npz, png
from cxrsynth.errors import DiskFull, MismatchError, UsageError
from cxrsynth.factory.verify import against_receipts, verify
from cxrsynth.files import publish, write_atomic
from cxrsynth.records import Entry
from cxrsynth.store import Store


def entry(key: str = "a", value: int = 7) -> Entry:
    image = np.full((8, 8), value, np.uint8)
    layers = np.zeros((3, 8, 8), bool)
    layers[1, 2:4] = True
    return Entry({"key": key, "prompt": "p"}, image, image // 7, layers, {"maps": np.ones((3, 2, 2), np.float16)})


def commit(root: Path, shard: int = 0, keys: tuple[str, ...] = ("a", "b")) -> Store:
    store = Store(root)
    store.write_shard(shard, [entry(key) for key in keys], fingerprint="f", planned=list(keys))
    return store


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    store = commit(tmp_path)
    row = next(store.rows())
    assert np.array_equal(store.load_image(row), entry().image)
    assert np.array_equal(store.load_mask(row), entry().mask)
    assert np.array_equal(store.load_layers(row, 3), entry().layers)
    assert np.array_equal(store.load_maps(row)["maps"], np.ones((3, 2, 2)))  # type: ignore[index]


def test_pictures_and_masks_have_the_same_relative_paths(tmp_path: Path) -> None:
    commit(tmp_path)
    files = [
        {path.relative_to(tmp_path / tree) for path in (tmp_path / tree).rglob("*.png")} for tree in ("images", "masks")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 2


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="no space left"):
        write_atomic(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert path.read_bytes() == b"old"


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "f", b"new")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def full_later(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_later)
    with pytest.raises(DiskFull):
        commit(tmp_path)
    assert Store(tmp_path).receipt(0) is None
    assert not list(Store(tmp_path).rows())


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_atomic(tmp_path / "file" / "x", b"")


def test_done_needs_the_fingerprint_the_slots_and_the_sizes(tmp_path: Path) -> None:
    store = commit(tmp_path)
    assert store.is_done(0, "f", ["a", "b"])
    assert not store.is_done(0, "g", ["a", "b"])
    assert not store.is_done(0, "f", ["a", "b", "c"])
    (tmp_path / "images/00000/a.png").write_bytes(b"short")
    assert not store.is_done(0, "f", ["a", "b"])


def test_a_missing_file_is_not_done(tmp_path: Path) -> None:
    store = commit(tmp_path)
    (tmp_path / "masks/00000/b.png").unlink()
    assert not store.is_done(0, "f", ["a", "b"])


def test_verify_finds_one_flipped_bit(tmp_path: Path) -> None:
    store = commit(tmp_path)
    assert not list(against_receipts(store))
    path = tmp_path / "images/00000/a.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    assert [problem.path for problem in against_receipts(store)] == ["images/00000/a.png"]


def test_verify_finds_a_missing_file(tmp_path: Path) -> None:
    store = commit(tmp_path)
    (tmp_path / "meta/00000.jsonl").unlink()
    assert [(p.path, p.what) for p in against_receipts(store)] == [("meta/00000.jsonl", "missing")]


def test_verify_of_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    with pytest.raises(MismatchError, match="no finished shard"):
        list(verify(tmp_path))


def test_a_receipt_that_is_cut_short_does_not_count(tmp_path: Path) -> None:
    store = commit(tmp_path)
    path = store.receipt_path(0)
    path.write_bytes(path.read_bytes()[:50])
    assert store.receipt(0) is None
    assert [problem.what for problem in against_receipts(store)] == ["receipt cannot be read"]


def test_a_shard_without_a_receipt_is_not_read(tmp_path: Path) -> None:
    store = commit(tmp_path)
    store.receipt_path(0).unlink()
    assert not list(store.rows())


def test_the_same_content_has_the_same_bytes(tmp_path: Path) -> None:
    one, other = commit(tmp_path / "1"), commit(tmp_path / "2")
    assert one.receipt_path(0).read_bytes() == other.receipt_path(0).read_bytes()


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    stale = tmp_path / "images/00000/.tmp-a.png-12345678"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    commit(tmp_path)
    assert not stale.exists()


def test_a_failure_is_removed_when_its_shard_succeeds(tmp_path: Path) -> None:
    from cxrsynth.records import Failure

    store = Store(tmp_path)
    store.write_failure(Failure(0, "boom", "trace", 2))
    assert store.failures()[0]["error"] == "boom"
    commit(tmp_path)
    assert not store.failures()


def test_encoders_are_deterministic() -> None:
    array = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert png(array) == png(array)
    assert npz({"a": array}) == npz({"a": array})


def test_a_file_and_its_name_last_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_atomic(tmp_path / "new" / "a.json", b"{}")
    assert synced[-2].rpartition("/")[2].startswith(".tmp-a.json")
    assert synced[-1] == str(tmp_path / "new")
    assert str(tmp_path) in synced  # which holds the new folder
    synced.clear()

    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    publish(tmp_path / "model", fill)
    assert [path.rpartition("/")[2] for path in synced[:1]] == ["config.json"]
    assert synced[-1] == str(tmp_path)
