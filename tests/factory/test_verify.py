"""verify finds what was damaged, removed, added or changed in a dataset, wherever in it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cxrsynth.factory.apply.segment import segment
from cxrsynth.factory.verify import verify
from cxrsynth.ingest.convert import ingest
from cxrsynth.ingest.folder import Folder

Change = Callable[[Path], object]
IMAGE, RECEIPT, META = "images/00000/000000000.png", "shards/00000.json", "meta/00000.jsonl"


def edit(relative: str, change: Callable[[Any], object]) -> Change:
    """Change a JSON file in place."""

    def carry_out(root: Path) -> None:
        body = json.loads((root / relative).read_text())
        change(body)
        (root / relative).write_text(json.dumps(body))

    return carry_out


def replace(relative: str, old: str, new: str) -> Change:
    return lambda root: (root / relative).write_text((root / relative).read_text().replace(old, new))


def remove(relative: str) -> Change:
    return lambda root: (root / relative).unlink()


def write(relative: str, data: bytes) -> Change:
    return lambda root: (root / relative).write_bytes(data)


def exchange(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def link(root: Path) -> None:
    (root / IMAGE).unlink()
    (root / IMAGE).symlink_to("/etc/passwd")


CHANGES: dict[str, Change] = {
    "image changed": write(IMAGE, b"x"),
    "mask gone": remove("masks/00000/000000000.png"),
    "extra image": write("images/00000/extra.png", b"x"),
    "link that leaves": link,
    "receipt gone": remove(RECEIPT),
    "last receipt gone": remove("shards/00001.json"),
    "receipt cut": write(RECEIPT, b'{"shard": 0'),
    "receipt forgets a file": edit(RECEIPT, lambda body: body["files"].pop("masks/00000/000000000.png")),
    "receipt forgets a key": edit(RECEIPT, lambda body: body["keys"].pop()),
    "receipt plans less": edit(RECEIPT, lambda body: body["planned"].pop()),
    "receipt of another recipe": edit(RECEIPT, lambda body: body.update(fingerprint="x")),
    "receipt of another shard": edit(RECEIPT, lambda body: body.update(shard=1)),
    "receipt leaves the folder": edit(RECEIPT, lambda body: body["files"].update({"../x": {"sha256": "", "size": 1}})),
    "receipt invents rejects": edit(RECEIPT, lambda body: body.update(rejects={"area": 3})),
    "rows gone": write(META, b""),
    "meta gone": remove(META),
    "receipt states another size": edit(RECEIPT, lambda body: body["files"][IMAGE].update(size=1)),
    "class overlaps": edit("classes.json", lambda body: body["classes"][0].update(overlap=True)),
    "phrase changed": edit("classes.json", lambda body: body["classes"][0].update(phrase="spleen")),
    "image under another name": lambda root: (root / IMAGE).rename(root / "images/00000/other.png"),
    "two images exchanged": lambda root: exchange(root / IMAGE, root / "images/00000/000000001.png"),
    "mask of another image": lambda root: shutil.copy(
        root / "masks/00000/000000001.png", root / "masks/00000/000000000.png"
    ),
    "receipt copied": lambda root: shutil.copy(root / RECEIPT, root / "shards/00002.json"),
    "stranger among receipts": write("shards/notes.txt", b"x"),
    "identity of another model": edit("identity.json", lambda body: body["identity"].update(model="0" * 64)),
    "class renamed": edit("classes.json", lambda body: body["classes"][0].update(name="spleen")),
    "classes swapped": edit("classes.json", lambda body: [c.update(id=4 - c["id"]) for c in body["classes"]]),
    "classes cut": write("classes.json", b"{"),
    "classes gone": remove("classes.json"),
    "recipe gone": remove("recipe.yaml"),
    "recipe seed": replace("recipe.yaml", "seed: 0", "seed: 5"),
    "recipe count": replace("recipe.yaml", "count: 6", "count: 60"),
    "identity gone": remove("identity.json"),
    "identity changed": edit("identity.json", lambda body: body["identity"].update(seed=9)),
    "identity fingerprint": edit("identity.json", lambda body: body.update(fingerprint="x")),
}


def test_a_dataset_that_nobody_touched_has_no_problem(phantom_dataset: Path) -> None:
    assert not list(verify(phantom_dataset))


def sealed_changes(about: str) -> dict[str, Change]:
    """Changes of a dataset that has no recipe, but a file with a seal."""
    return {
        "classes swapped": edit("classes.json", lambda body: [c.update(id=4 - c["id"]) for c in body["classes"]]),
        "phrase changed": edit("classes.json", lambda body: body["classes"][0].update(phrase="spleen")),
        "seal changed": edit(about, lambda body: body.update(seal="0" * 64)),
        "fingerprint changed": edit(about, lambda body: body.update(fingerprint="0" * 64)),
        "class renamed under the seal": edit(about, lambda body: body["classes"][0].update(name="spleen")),
        "seal gone": remove(about),
        "rows gone": write(META, b""),
        "extra image": write("images/00000/extra.png", b"x"),
    }


ABOUT = {"ingested": "ingest.json", "segmented": "segment.json"}
SEALED = {kind: sealed_changes(about) for kind, about in ABOUT.items()}
SEALED["ingested"] |= {
    "fewer planned": edit("summary.json", lambda body: body.update(planned=1)),
    "fewer kept": edit("summary.json", lambda body: body.update(kept=1)),
    "a refused image forgotten": edit("summary.json", lambda body: body["refused"].clear()),
    "size changed": edit("ingest.json", lambda body: body.update(size=512)),
}


@pytest.fixture(scope="module")
def ingested(phantom_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, one of which is none."""
    folder = Path(shutil.copytree(phantom_dataset / "images", tmp_path_factory.mktemp("raw") / "images"))
    (folder / "broken.png").write_bytes(b"no image")
    out = folder.parent.parent / "ingested"
    ingest(Folder(folder.parent), out, 64)
    return out


class Halves:
    """A network that sees a lung on each side."""

    config: ClassVar[dict[str, str]] = {"sha256": "ab" * 32, "arch": "halves"}
    classes = ("right_lung", "left_lung")

    def __call__(self, images: list[np.ndarray]) -> list[np.ndarray]:
        return [
            np.repeat([[1] * (i.shape[1] // 2) + [2] * (i.shape[1] // 2)], len(i), 0).astype(np.uint8) for i in images
        ]


@pytest.fixture(scope="module")
def segmented(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("segmented") / "d"
    segment(Halves(), ingested, out)  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("kind", SEALED)
def test_a_sealed_dataset_that_nobody_touched_has_no_problem(kind: str, request: pytest.FixtureRequest) -> None:
    assert not list(verify(request.getfixturevalue(kind)))


@pytest.mark.parametrize(("kind", "change"), [(kind, change) for kind in SEALED for change in SEALED[kind]])
def test_a_change_of_a_sealed_dataset_is_found(
    kind: str, change: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / "d"))
    SEALED[kind][change](root)
    assert list(verify(root))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found(phantom_dataset: Path, tmp_path: Path, change: str) -> None:
    root = shutil.copytree(phantom_dataset, tmp_path / "d")
    CHANGES[change](root)
    assert list(verify(root))
