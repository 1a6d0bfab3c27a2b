"""verify finds what was damaged, removed, added or changed in a dataset, wherever in it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxrsynth.factory.verify import verify

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


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found(phantom_dataset: Path, tmp_path: Path, change: str) -> None:
    root = shutil.copytree(phantom_dataset, tmp_path / "d")
    CHANGES[change](root)
    assert list(verify(root))
