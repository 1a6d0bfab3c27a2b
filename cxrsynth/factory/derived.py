"""A dataset made of another one by leaving images out: the same shards and keys, and why an image is not there.

OUT/derived.json says from which dataset, by which command and with which settings, under a seal as that of ``segment``.
What is left out stands in ``rejected/`` with its reason, as what curation rejects. The other dataset is not touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrsynth.data.labelled import check_finished
from cxrsynth.data.paths import refuse_overlap
from cxrsynth.encoding import dumps, seal, sha256
from cxrsynth.factory.subset import entry
from cxrsynth.ingest.convert import check_owner
from cxrsynth.records import Entry, Row
from cxrsynth.store import Store

ABOUT = "derived.json"
# A sample as it is -> as it goes into the new dataset.
Change = Callable[[Entry], Entry]


@dataclass(frozen=True, slots=True)
class Derived:
    """A dataset in the making.

    Attributes:
        source: the dataset that is read.
        out: the one that is written.
        plan: what `ABOUT` says, without seal and fingerprint.
        fingerprint: sha256 of the command, its settings and the source.
    """

    source: Store
    out: Store
    plan: dict[str, Any]
    fingerprint: str

    @classmethod
    def plan_of(cls, command: str, dataset: Path, out: Path, settings: Mapping[str, Any], *others: Path) -> Derived:
        """Find out what there is to do; nothing is written.

        Args:
            command: that makes it.
            settings: all that decides which images are left out, in plain types.
            others: further datasets that decide it.

        Raises:
            UsageError: no dataset, or ``out`` is, lies in or holds one that is read.
            MismatchError: an unfinished dataset, or ``out`` holds another one.
        """
        source, store = Store(dataset), Store(out)
        classes = source.classes()
        for root in (dataset, *others):
            refuse_overlap(root, out, around=True)
            check_finished(root)
        origins = [
            [[one.shard, one.fingerprint, one.keys] for one in Store(root).receipts()] for root in (dataset, *others)
        ]
        fingerprint = sha256(dumps([command, settings, origins]))
        plan = {
            "command": command,
            "settings": dict(settings),
            "from": dataset.resolve().name,
            "planned": sum(len(receipt.planned) for receipt in source.receipts()),
            "classes": [{"id": number, "name": name} for name, number in classes.items()],
        }
        check_owner(out, ABOUT, fingerprint)
        return cls(source, store, plan, fingerprint)

    def claim(self) -> None:
        """Write what the folder is for: its plan, and the classes and the recipe of the source."""
        sealed = {**self.plan, "fingerprint": self.fingerprint, "seal": seal(self.plan, self.fingerprint)}
        self.out.write(ABOUT, dumps(sealed))
        for name in ("recipe.yaml", "classes.json"):
            path = self.source.root / name
            if path.exists():
                self.out.write(name, path.read_bytes())

    def write(
        self, reasons: Mapping[str, str], change: Change | None = None, advance: Callable[[int], None] | None = None
    ) -> None:
        """Write all shards; those that are there are not written again.

        Args:
            reasons: key -> why an image is left out; the others are kept.
            change: of what is kept and of what is left out.
            advance: told the number of images after every shard.
        """
        rows: dict[int, list[Row]] = {}
        for row in self.source.rows():
            rows.setdefault(row["shard"], []).append(row)
        for receipt in self.source.receipts():
            if not self.out.is_done(receipt.shard, self.fingerprint, receipt.planned):
                kept: list[Entry] = []
                left_out: list[tuple[Row, np.ndarray]] = []
                for row in rows.get(receipt.shard, []):
                    own = entry(self.source, row, len(self.plan["classes"]))
                    changed = change(own) if change else own
                    reason = reasons.get(changed.row["key"])
                    if reason is None:
                        kept.append(changed)
                    else:
                        left_out.append(({"attempt": 0, **changed.row, "reason": reason}, changed.image))
                self.out.write_shard(
                    receipt.shard,
                    kept,
                    fingerprint=self.fingerprint,
                    planned=receipt.planned,
                    rejected=left_out,
                    versions=receipt.versions,
                    computed=receipt.computed,
                )
            if advance:
                advance(len(receipt.keys))

    def left_out(self) -> dict[str, int]:
        """Reason -> images that are left out of the finished shards."""
        found: Counter[str] = Counter()
        for receipt in self.out.receipts():
            found.update(receipt.rejects)
        return dict(sorted(found.items()))

    @property
    def kept(self) -> int:
        """Images in the finished shards."""
        return sum(len(receipt.keys) for receipt in self.out.receipts())


def scored(row: Row, scores: Mapping[str, float | None]) -> Row:
    """A row with further scores, those that are known."""
    known = {name: round(value, 5) for name, value in scores.items() if value is not None}
    return {**row, "scores": {**(row.get("scores") or {}), **known}} if known else row
