"""The on-disk form: parallel trees of images and masks, one receipt per shard, written last.

    OUT/images/00000/000000017.png   8-bit gray
    OUT/masks/00000/000000017.png    8-bit class ids (absent for images without a mask)
    OUT/layers/00000/000000017.png   one bit per class, where classes overlap
    OUT/maps/00000/000000017.npz     raw class attention, where the recipe keeps it
    OUT/meta/00000.jsonl             one line per sample
    OUT/rejected/00000.jsonl         one line per rejected attempt; the image stands beside it
    OUT/shards/00000.json            receipt
    OUT/failures/00000.json          error of a shard that could not be made

A file appears complete or not at all. A reader believes only what a receipt names.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cxrsynth.data import keys
from cxrsynth.data.classes import read_classes
from cxrsynth.data.documents import read_arrays, read_json, read_json_lines, read_text, read_yaml
from cxrsynth.data.masks import MaskError, read_mask
from cxrsynth.data.paths import OutsideError, inside
from cxrsynth.data.shapes import check_recipe, check_row
from cxrsynth.encoding import dumps, lines, npz, png, sha256
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.files import TMP, sync, write_atomic
from cxrsynth.pool import cores
from cxrsynth.records import Entry, Failure, Receipt, Row

MOST_WRITERS = 8
RECEIPT = TypeAdapter(Receipt)


@dataclass(frozen=True, slots=True)
class Store:
    """A dataset folder. Holds no state but its path."""

    root: Path

    # -- writing ------------------------------------------------------------------------------------------------

    def write_shard(
        self,
        shard: int,
        entries: Iterable[Entry],
        *,
        fingerprint: str,
        planned: list[str],
        rejected: list[tuple[Row, np.ndarray]] | None = None,
        versions: dict[str, str] | None = None,
        computed: dict[str, str] | None = None,
    ) -> Receipt:
        """Commit one shard: images, masks, maps, meta, rejects; the receipt last.

        Writing the same shard again is harmless: every file is replaced as a whole.

        Args:
            rejected: (row, image) of every rejected attempt; a row has ``key``, ``attempt``, ``reason``.
        """
        name = f"{shard:05d}"
        self._sweep(name)
        taken = keys.Keys()
        files: dict[str, dict[str, Any]] = {}

        def put(relative: str, data: bytes) -> str:
            write_atomic(self.root / relative, data, last=False)
            files[relative] = {"sha256": sha256(data), "size": len(data)}
            return relative

        def put_all(entry: Entry) -> Row:
            key = entry.row["key"]
            row = {**entry.row, "shard": shard, "image": put(f"images/{name}/{key}.png", png(entry.image))}
            row["mask"] = None if entry.mask is None else put(f"masks/{name}/{key}.png", png(entry.mask))
            if entry.layers is not None:
                bits = np.packbits(entry.layers, axis=0, bitorder="little")[0]
                row["layers"] = put(f"layers/{name}/{key}.png", png(bits))
            if entry.maps is not None:
                row["maps"] = put(f"maps/{name}/{key}.npz", npz(entry.maps))
            return row

        # Compressing and waiting for the disk take no turn at the interpreter: the images of a shard go side by side.
        with ThreadPoolExecutor(min(MOST_WRITERS, cores())) as pool:
            rows: list[Row] = []
            waiting: deque[Future[Row]] = deque()
            for entry in entries:
                taken.add(entry.row["key"])
                waiting.append(pool.submit(put_all, entry))
                if len(waiting) > 2 * MOST_WRITERS:  # few wait in memory
                    rows.append(waiting.popleft().result())
            rows += [one.result() for one in waiting]
        put(f"meta/{name}.jsonl", lines(rows))
        reasons: dict[str, int] = {}
        discarded: list[Row] = []
        for row, picture in rejected or []:
            keys.check([row["key"]])
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
            path = put(f"rejected/{name}/{row['key']}-{row['attempt']}.png", png(picture))
            discarded.append({**row, "image": path})
        put(f"rejected/{name}.jsonl", lines(discarded))
        kept = [row["key"] for row in rows]
        receipt = Receipt(shard, fingerprint, planned, kept, reasons, files, versions or {}, computed or {})
        for folder in {(self.root / relative).parent for relative in files}:
            sync(folder)
        write_atomic(self.receipt_path(shard), dumps(receipt.as_json()))
        (self.root / f"failures/{name}.json").unlink(missing_ok=True)
        return receipt

    def write_failure(self, failure: Failure) -> None:
        """Record why a shard could not be made; the next run tries it again."""
        body = {"shard": failure.shard, "error": failure.error, "tries": failure.tries, "traceback": failure.traceback}
        write_atomic(self.root / f"failures/{failure.shard:05d}.json", dumps(body))

    def write(self, relative: str, data: bytes) -> Path:
        """Write any other file of the dataset (recipe, card, report) whole."""
        path = self.root / relative
        write_atomic(path, data)
        return path

    def _sweep(self, name: str) -> None:
        """Remove temporary files that a killed run left in this shard's folders."""
        for tree in ("images", "masks", "layers", "maps", "rejected"):
            for stale in (self.root / tree / name).glob(f"{TMP}*"):
                stale.unlink(missing_ok=True)
        for tree in ("meta", "rejected", "shards", "failures"):
            for stale in (self.root / tree).glob(f"{TMP}{name}*"):
                stale.unlink(missing_ok=True)

    # -- reading ------------------------------------------------------------------------------------------------

    def receipt_path(self, shard: int) -> Path:
        """Where the receipt of a shard is."""
        return self.root / f"shards/{shard:05d}.json"

    def receipt(self, shard: int) -> Receipt | None:
        """The receipt of a shard, or None where there is none that can be read."""
        try:
            receipt = RECEIPT.validate_json(read_text(self.receipt_path(shard))[0], strict=True)
        except (UsageError, ValidationError):
            return None
        stated = receipt.files.values()
        whole = all(isinstance(one.get("sha256"), str) and isinstance(one.get("size"), int) for one in stated)
        return receipt if whole and receipt.shard == shard else None

    def shards(self) -> list[int]:
        """The numbers of the shards that have a receipt, readable or not."""
        try:
            names = [Path(name) for name in os.listdir(self.root / "shards")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(name.stem) for name in names if name.suffix == ".json" and name.stem.isdecimal())

    def receipts(self) -> Iterator[Receipt]:
        """All receipts in the order of the shards."""
        for shard in self.shards():
            receipt = self.receipt(shard)
            if receipt is not None:
                yield receipt

    def is_done(self, shard: int, fingerprint: str, planned: list[str]) -> bool:
        """Whether a receipt of this recipe covers every planned slot and the files have the stated sizes."""
        receipt = self.receipt(shard)
        if receipt is None or receipt.fingerprint != fingerprint or not set(planned) <= set(receipt.planned):
            return False
        return all(self.size(path) == stated["size"] for path, stated in receipt.files.items())

    def size(self, relative: str) -> int:
        """Bytes of a file, -1 where there is none in this folder."""
        try:
            return inside(self.root, relative).stat().st_size
        except (OSError, OutsideError):
            return -1

    def rows(self) -> Iterator[Row]:
        """The meta lines of all finished shards, in order; file paths are relative to the dataset."""
        for receipt in self.receipts():
            yield from self._lines(f"meta/{receipt.shard:05d}.jsonl")

    def rejects(self) -> Iterator[Row]:
        """The rejected attempts of all finished shards."""
        for receipt in self.receipts():
            if (self.root / f"rejected/{receipt.shard:05d}.jsonl").exists():
                yield from self._lines(f"rejected/{receipt.shard:05d}.jsonl")

    def _lines(self, relative: str) -> Iterator[Row]:
        """The rows of a file of JSON lines, each with a key.

        Raises:
            MismatchError: the file is gone or damaged.
        """
        try:
            for number, row in enumerate(read_json_lines(inside(self.root, relative)), start=1):
                keys.check([row.get("key")])
                check_row(row, f"{self.root / relative}, line {number}")
                yield _shared(row)
        except UsageError as error:
            raise MismatchError(error.message, f"see cxrsynth verify {self.root}") from error

    def failures(self) -> list[dict[str, Any]]:
        """The recorded failures, in the order of the shards; each has ``shard``, ``error`` and ``tries``."""
        found = []
        for path in sorted((self.root / "failures").glob("[0-9]*.json")):
            body = read_json(path)
            found.append({"shard": path.stem, "error": "?", "tries": "?", **(body if isinstance(body, dict) else {})})
        return found

    def recipe(self) -> dict[str, Any]:
        """``recipe.yaml``; empty where there is none, as for ingested images.

        Raises:
            MismatchError: it is damaged.
        """
        path = self.root / "recipe.yaml"
        if not path.exists() and not path.is_symlink():
            return {}
        try:
            return check_recipe(read_yaml(inside(self.root, "recipe.yaml")), str(path))
        except UsageError as error:
            raise MismatchError(error.message, error.hint) from error

    def classes(self) -> dict[str, int]:
        """Class name -> id."""
        path = self.root / "classes.json"
        if not path.exists():
            raise UsageError(
                f"{self.root} is not a cxrsynth dataset (no classes.json)",
                "point to a folder that 'cxrsynth generate' or 'cxrsynth ingest' wrote",
            )
        return {item["name"]: item["id"] for item in read_classes(inside(self.root, "classes.json"), empty=True)}

    def identity(self) -> dict[str, Any]:
        """``identity.json``: the fingerprint, and what it is of.

        Raises:
            MismatchError: it is damaged.
        """
        path = self.root / "identity.json"
        try:
            body = read_json(path)
        except UsageError as error:
            raise MismatchError(error.message, "choose another folder with -o") from error
        if not isinstance(body, dict) or not isinstance(body.get("identity"), dict) or "fingerprint" not in body:
            raise MismatchError(f"{path} holds no identity", "choose another folder with -o")
        return body

    def load_image(self, row: Row) -> np.ndarray:
        """(H, W) uint8 image of a row."""
        return self._pixels(row["image"])

    def load_mask(self, row: Row) -> np.ndarray | None:
        """(H, W) uint8 class ids of a row, 255 where nobody decided; None where nobody labelled it."""
        return None if row.get("mask") is None else self._pixels(row["mask"])

    def load_layers(self, row: Row, count: int) -> np.ndarray | None:
        """(count, H, W) bool, one mask per class, or None where the recipe has no overlapping classes."""
        if row.get("layers") is None:
            return None
        bits = self._pixels(row["layers"])
        return np.unpackbits(bits[None], axis=0, bitorder="little", count=count).astype(bool)

    def load_maps(self, row: Row) -> dict[str, np.ndarray] | None:
        """The stored attention maps of a row, or None where the recipe did not keep them."""
        if row.get("maps") is None:
            return None
        path = inside(self.root, row["maps"])
        try:
            return read_arrays(path)
        except UsageError as error:
            raise MismatchError(error.message, f"see cxrsynth verify {self.root}") from error

    def _pixels(self, relative: object) -> np.ndarray:
        """(H, W) uint8 of an image of this dataset; ids and gray levels are both plain bytes.

        Raises:
            OutsideError: its path leaves the dataset.
            MismatchError: it is gone or damaged.
        """
        path = inside(self.root, relative)
        try:
            return read_mask(path, ignore=True)[0]
        except MaskError as error:
            what = str(error).removeprefix("mask ").removeprefix("mask: ")
            raise MismatchError(f"{path}: {what}", f"see cxrsynth verify {self.root}") from error


def _shared(value: Any) -> Any:
    """The same value, the names in its mappings held once for all rows: a hundred thousand rows have few names."""
    return {sys.intern(name): _shared(one) for name, one in value.items()} if isinstance(value, dict) else value
