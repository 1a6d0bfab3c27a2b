"""Whether a dataset is what it says: every file, every receipt, every row, the classes, the recipe and the identity.

It finds damage and changes that forget something. Whoever rewrites a file, its receipt, and all that speaks of the two
alike is not found: nothing here is signed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cxrsynth import recipe as recipes
from cxrsynth.data import keys
from cxrsynth.data.documents import read_json, read_json_lines, read_yaml
from cxrsynth.data.paths import OutsideError, inside, shown, trouble
from cxrsynth.encoding import file_sha256, seal
from cxrsynth.errors import CxrError, MismatchError, UsageError
from cxrsynth.factory.computed import told
from cxrsynth.recipe import Recipe, parse
from cxrsynth.records import Receipt, Row
from cxrsynth.store import Store

Classes = list[dict[str, Any]]

# Folders whose every file belongs to a receipt.
TREES = ("images", "masks", "layers", "maps", "meta", "rejected")
PATHS = {"image": "images", "mask": "masks", "layers": "layers", "maps": "maps"}
# Say what a folder is for, and carry a seal over the rest of themselves.
SEALED = ("derived.json", "ingest.json", "segment.json", "subset.json")


@dataclass(slots=True)
class Problem:
    """What was found: a path relative to the dataset, and what is wrong with it."""

    path: str
    what: str


def verify(root: Path) -> Iterator[Problem]:
    """All that is wrong with a dataset.

    Raises:
        UsageError: there is no dataset.
        MismatchError: no shard is finished.
    """
    store = Store(root)
    if not (root / "classes.json").exists() and not (root / "shards").is_dir():
        store.classes()  # says that this is no dataset
    if not store.shards():
        raise MismatchError(f"{root} has no finished shard", "re-run the command that writes it to complete it")
    yield from against_receipts(store)
    known: list[Receipt] = []
    for receipt in store.receipts():
        yield from _receipt(store, receipt)
        yield from _strangers_in(store, receipt)
        # What is compared across shards is kept; the files, of which there are many more, are not.
        known.append(replace(receipt, files={}, versions={}))
    yield from _together(known)
    yield from _strangers(store, {f"{receipt.shard:05d}" for receipt in known})
    yield from _about(store, known)


def against_receipts(store: Store) -> Iterator[Problem]:
    """Compare every file with its receipt: what is missing, changed, or half written."""
    for shard in store.shards():
        receipt = store.receipt(shard)
        if receipt is None:
            yield Problem(f"shards/{shard:05d}.json", "receipt cannot be read")
            continue
        for relative, stated in receipt.files.items():
            try:
                file = inside(store.root, relative)
            except OutsideError as error:
                yield Problem(shown(relative), error.message)
                continue
            why = trouble(file)
            if why:
                yield Problem(relative, "missing" if why == "file is missing" else why)
            elif file.stat().st_size != stated["size"]:
                yield Problem(relative, f"has {file.stat().st_size} bytes, the receipt says {stated['size']}")
            elif file_sha256(file) != stated["sha256"]:
                yield Problem(relative, "changed since it was written")


def _receipt(store: Store, receipt: Receipt) -> Iterator[Problem]:
    """A receipt against the rows it speaks of."""
    name = f"{receipt.shard:05d}"
    where = f"shards/{name}.json"
    if not set(receipt.keys) <= set(receipt.planned):
        yield Problem(where, "keeps keys that were not planned")
    rows: list[Row] = []
    rejected: list[Row] = []
    for relative, found in ((f"meta/{name}.jsonl", rows), (f"rejected/{name}.jsonl", rejected)):
        if relative not in receipt.files:
            yield Problem(where, f"does not name {relative}")
        try:
            found.extend(read_json_lines(inside(store.root, relative)))
        except UsageError as error:
            yield Problem(relative, error.message)
    if [row.get("key") for row in rows] != receipt.keys:
        yield Problem(f"meta/{name}.jsonl", "its rows are not the keys of the receipt")
    if dict(Counter(str(row.get("reason")) for row in rejected)) != receipt.rejects:
        yield Problem(f"rejected/{name}.jsonl", "its rows are not the rejects of the receipt")
    named = {f"meta/{name}.jsonl", f"rejected/{name}.jsonl"}
    for row in rows:
        yield from _row(row, receipt, named)
    named |= {str(row.get("image")) for row in rejected}
    for relative in sorted(set(receipt.files) ^ named):
        yield Problem(shown(relative), "no row names it" if relative in receipt.files else "no receipt names it")


def _row(row: Row, receipt: Receipt, named: set[str]) -> Iterator[Problem]:
    """One row against its receipt; the files it names are added to ``named``."""
    key = row.get("key")
    if row.get("shard") != receipt.shard:
        yield Problem(f"meta/{receipt.shard:05d}.jsonl", f"{key} says it is of shard {row.get('shard')}")
    for field, tree in PATHS.items():
        relative = row.get(field)
        if relative is None and field != "image":
            continue
        named.add(str(relative))
        ending = ".npz" if field == "maps" else ".png"
        if relative != f"{tree}/{receipt.shard:05d}/{key}{ending}":
            yield Problem(f"meta/{receipt.shard:05d}.jsonl", f"{key} has another file as its {field}: {relative}")


def _together(receipts: list[Receipt]) -> Iterator[Problem]:
    """The receipts as one dataset: no gap, one fingerprint, no key twice."""
    numbers = {receipt.shard for receipt in receipts}
    for shard in range(max(numbers, default=-1)):
        if shard not in numbers:
            yield Problem(f"shards/{shard:05d}.json", "missing")
    fingerprints = Counter(receipt.fingerprint for receipt in receipts)
    usual = fingerprints.most_common(1)[0][0] if fingerprints else ""
    computed = {tuple(sorted(receipt.computed.items())) for receipt in receipts if receipt.computed}
    if len(computed) > 1:
        ways = ", ".join(sorted(told(dict(one)) for one in computed))
        yield Problem("shards", f"computed in more than one way: {ways}")
    taken = keys.Keys()
    for receipt in receipts:
        if receipt.fingerprint != usual:
            yield Problem(f"shards/{receipt.shard:05d}.json", "another fingerprint than the other shards")
        for key in receipt.planned:
            try:
                taken.add(key)
            except MismatchError as error:
                yield Problem(f"shards/{receipt.shard:05d}.json", error.message)


def _strangers_in(store: Store, receipt: Receipt) -> Iterator[Problem]:
    """Files in the folders and under the names of a shard that its receipt does not name."""
    name = f"{receipt.shard:05d}"
    for tree in TREES:
        beside = store.root / tree / f"{name}.jsonl"
        inside_ = sorted((store.root / tree / name).rglob("*"))
        for path in [*inside_, *([beside] if os.path.lexists(beside) else [])]:
            yield from _stranger(store, path, receipt.files)


def _stranger(store: Store, path: Path, known: Mapping[str, object]) -> Iterator[Problem]:
    relative = path.relative_to(store.root).as_posix()
    if (path.is_symlink() or not path.is_dir()) and relative not in known:
        yield Problem(shown(relative), "belongs to no finished shard")


def _strangers(store: Store, finished: set[str]) -> Iterator[Problem]:
    """Files in the folders of a dataset that lie where no finished shard has any; ``finished``: their names."""
    for tree in TREES:
        folder = store.root / tree
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            of_shard = path.is_dir() and not path.is_symlink() and path.name in finished
            if of_shard or (path.suffix == ".jsonl" and path.stem in finished):
                continue  # looked at with its shard
            for one in [path, *sorted(path.rglob("*"))] if path.is_dir() and not path.is_symlink() else [path]:
                yield from _stranger(store, one, {})
    for path in sorted((store.root / "shards").iterdir()):
        if path.suffix != ".json" or not path.stem.isdecimal():
            yield Problem(shown(path.relative_to(store.root)), "is no receipt")


def _about(store: Store, receipts: list[Receipt]) -> Iterator[Problem]:
    """What the folder says of itself: classes, recipe, identity, and how many images there should be."""
    classes: Classes = []
    try:
        store.classes()
        body = read_json(store.root / "classes.json")
        classes = body["classes"] if isinstance(body, dict) else []
    except (CxrError, KeyError) as error:
        yield Problem("classes.json", str(error))
    fingerprints = {receipt.fingerprint for receipt in receipts}
    sealed = [name for name in SEALED if (store.root / name).exists()]
    try:
        if sealed:
            yield from _sealed(store, sealed[0], classes, fingerprints, receipts)
        else:
            yield from _recipe(store, classes, fingerprints, receipts)
    except CxrError as error:
        yield Problem(".", error.message)


def _differ(found: Classes, wanted: Classes) -> bool:
    """Whether classes are not those in this order; versions may say more or less of a class."""
    if len(found) != len(wanted) or not all(isinstance(one, dict) for one in (*found, *wanted)):
        return True
    pairs = zip(found, wanted, strict=True)
    return any(a.get(name) != b.get(name) for a, b in pairs for name in {"name", "id"} | (set(a) & set(b)))


def _sealed(
    store: Store, name: str, classes: Classes, fingerprints: set[str], receipts: list[Receipt]
) -> Iterator[Problem]:
    """The file of an ingested or segmented dataset."""
    body = read_json(store.root / name)
    if not isinstance(body, dict):
        yield Problem(name, "is no JSON object")
        return
    stamp, fingerprint = body.pop("seal", ""), body.pop("fingerprint", "")
    if stamp != seal(body, fingerprint):
        yield Problem(name, "changed since it was written")
    if fingerprints - {fingerprint}:
        yield Problem(name, "its fingerprint is not that of the receipts")
    if _differ(classes, body.get("classes", [])):
        yield Problem("classes.json", f"its classes are not those of {name}")
    summary = store.root / "summary.json"
    said = read_json(summary) if summary.exists() else body
    said, where = (said, summary.name if summary.exists() else name) if isinstance(said, dict) else ({}, summary.name)
    planned = {key for receipt in receipts for key in receipt.planned}
    kept = {key for receipt in receipts for key in receipt.keys}
    if said.get("planned") != len(planned):
        yield Problem(where, f"{said.get('planned')} images planned, the receipts say {len(planned)}")
    if "kept" in said and said["kept"] != len(kept):
        yield Problem(where, f"{said['kept']} images kept, the receipts say {len(kept)}")
    if "refused" in said:
        refused = {row.get("key") for row in said["refused"] if isinstance(row, dict)}
        for key in sorted(planned - kept - refused):
            yield Problem(where, f"{key} is neither kept nor refused")


def _recipe(store: Store, classes: Classes, fingerprints: set[str], receipts: list[Receipt]) -> Iterator[Problem]:
    """Recipe and identity of a generated, annotated, relabelled or simulated dataset."""
    held = read_json(store.root / "identity.json")
    identity = held.get("identity") if isinstance(held, dict) else None
    if not isinstance(identity, dict):
        yield Problem("identity.json", "holds no identity")
        return
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    if held.get("fingerprint") != fingerprint or fingerprints - {fingerprint}:
        yield Problem("identity.json", "its fingerprint is not that of the receipts")
    planned = {receipt.shard: receipt.planned for receipt in receipts}
    slots = sum(map(len, planned.values()))
    body = read_yaml(store.root / "recipe.yaml")
    if isinstance(body, dict) and "simulate" in identity:
        yield from _simulated(body, identity, classes, slots)
        return
    recipe = parse(body if isinstance(body, dict) else {}, "recipe.yaml")
    if _differ(classes, [item.model_dump(mode="json") for item in recipe.classes]):
        yield Problem("classes.json", "its classes are not those of recipe.yaml")
    for place in _differences(identity, _own(recipe, identity)):
        yield Problem("recipe.yaml", f"{place} is not what the dataset was made with")
    if "films" in identity or "images" in identity or "relabelled_from" in identity:
        if slots < recipe.count:  # of other images, in shards of another size
            yield Problem("shards", f"{slots} images planned, recipe.yaml says {recipe.count}")
        return
    for shard in range(recipe.shards):
        if shard not in planned:
            yield Problem(f"shards/{shard:05d}.json", "missing")
        elif planned[shard] != recipe.shard_keys(shard):
            yield Problem(f"shards/{shard:05d}.json", "planned other slots than the recipe")


def _simulated(body: Mapping[str, Any], identity: Mapping[str, Any], classes: Classes, slots: int) -> Iterator[Problem]:
    """The recipe of a dataset with simulated findings, which is none of generation."""
    if body.get("simulate") != identity["simulate"]:
        yield Problem("recipe.yaml", "simulate is not what the dataset was made with")
    if _differ(classes, body.get("classes") or []):
        yield Problem("classes.json", "its classes are not those of recipe.yaml")
    if not isinstance(body.get("count"), int) or slots < body["count"]:
        yield Problem("shards", f"{slots} images planned, recipe.yaml says {body.get('count')}")


def _own(recipe: Recipe, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of the recipe as it stands in the folder; files that are not here any more are believed."""
    try:
        return json.loads(json.dumps(recipes.identity(recipe, str(stored.get("model", "")))))  # type: ignore[no-any-return]
    except (CxrError, OSError):
        return {}


def _differences(stored: Mapping[str, Any], own: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Dotted names of the values that both sides have and that differ; an identity may hold a part of a block only."""
    for name in sorted(set(stored) & set(own)):
        old, new = stored[name], own[name]
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{place}{name}.")
        elif old != new:
            yield f"{place}{name}"
