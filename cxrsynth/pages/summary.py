"""The facts of a dataset, read once from disk: what the card writes down and the report draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cxrsynth import weights
from cxrsynth.data.classes import read_classes
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.records import Row
from cxrsynth.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Label:
    """A class of the dataset: id in the masks (from 1), name, and the phrase that a prompt says it with."""

    id: int
    name: str
    phrase: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A dataset as it stands on disk.

    Attributes:
        store: where it is.
        name: what its recipe calls it, else its folder's name.
        recipe: the resolved recipe as plain mappings; empty for ingested images.
        labels: the classes in recipe order, which is that of the stored layers.
        rows: the meta line of every kept image, in order.
        rejects: the line of every rejected attempt, in order.
        fingerprint: sha256 of the recipe, hex.
        planned: shard -> how many images it was asked for.
        failed: shards that could not be made.
        weights: digest of the model's files; empty for a generator without, and for real images.
        versions: package -> version that the first shard was made with.
    """

    store: Store
    name: str
    recipe: dict[str, Any]
    labels: tuple[Label, ...]
    rows: list[Row]
    rejects: list[Row]
    fingerprint: str
    planned: dict[int, int]
    failed: int
    weights: str
    versions: dict[str, str]

    @property
    def synthetic(self) -> bool:
        """Whether any image was generated; ingested images name their source."""
        return any("source" not in row for row in self.rows or self.rejects)

    @property
    def simulated(self) -> bool:
        """Whether findings were put into real images by the simulator."""
        return any("simulated" in row for row in self.rows or self.rejects)

    @property
    def missing(self) -> int:
        """Planned images of finished shards that no attempt delivered."""
        return max(0, sum(self.planned.values()) - len(self.rows))

    def count(self, key: str) -> Counter[str]:
        """How often each value of a text column occurs, most frequent first."""
        return ordered(Counter(str(row[key]) for row in self.rows if row.get(key) is not None))

    def reasons(self) -> Counter[str]:
        """Reject reason -> attempts, most frequent first."""
        return ordered(Counter(str(row["reason"]) for row in self.rejects))

    def fields(self) -> dict[str, Counter[str]]:
        """What the prompts were filled with: field -> value -> images."""
        found: dict[str, Counter[str]] = {}
        for row in self.rows:
            for key, value in (row.get("fields") or {}).items():
                found.setdefault(key, Counter())[str(value)] += 1
        return {key: ordered(values) for key, values in sorted(found.items())}

    def splits(self) -> dict[str, int]:
        """Split -> images, in the usual order."""
        found = self.count("split")
        usual = [name for name in ("train", "val", "test") if name in found]
        return {name: found[name] for name in [*usual, *(name for name in found if name not in usual)]}

    @property
    def licence(self) -> str:
        """The licence of images that state none: the recipe's, else for synthetic ones the model's; may be empty."""
        stated = str((self.recipe.get("card") or {}).get("licence") or "")
        return stated or (self.model.get("licence", "") if self.synthetic else "")

    @property
    def model(self) -> dict[str, str]:
        """Name, digest and licence of the weights; empty where nothing was generated with weights."""
        name = str(self.recipe.get("model") or "")
        if not self.weights or not name:
            return {}
        # A folder's full path says something about a machine, its name something about the model.
        shown = Path(name).name if Path(name).is_absolute() or name.startswith((".", "~")) else name
        return {"name": shown, "digest": self.weights, "licence": _licence_of(name, shown)}

    def licences(self) -> dict[str, int]:
        """Licence -> images: what each image says of itself, else what the recipe says of all."""
        stated = self.count("licence")
        general = self.licence
        rest = len(self.rows) - stated.total()
        return {**stated, general: stated[general] + rest} if general and rest else dict(stated)

    def regions(self, row: Row) -> dict[int, np.ndarray]:
        """Class id -> (H, W) bool of one image, overlaps kept; empty where nobody labelled it."""
        layers = self.store.load_layers(row, len(self.labels))
        if layers is not None:
            return {label.id: layers[place] for place, label in enumerate(self.labels) if layers[place].any()}
        mask = self.store.load_mask(row)
        if mask is None:
            return {}
        return {label.id: mask == label.id for label in self.labels if (mask == label.id).any()}


def summarise(root: Path) -> Summary:
    """Read the facts of a dataset.

    Raises:
        UsageError: the folder is no dataset, or nothing in it is finished yet.
    """
    store = Store(Path(root))
    store.classes()  # says what to do where the folder is no dataset
    listed = read_classes(store.root / "classes.json", empty=True)
    labels = tuple(Label(int(c["id"]), str(c["name"]), str(c.get("phrase") or c["name"])) for c in listed)
    rows, rejects = list(store.rows()), list(store.rejects())
    first, planned = None, {}
    for receipt in store.receipts():  # one at a time: each names all files of its shard
        first = first or receipt
        planned[receipt.shard] = len(receipt.planned)
    if first is None or not (rows or rejects):
        hint = f"see how far it is: cxrsynth status {store.root}"
        raise UsageError(f"{store.root} holds no finished image yet", hint)
    identity = store.identity()["identity"] if (store.root / "identity.json").exists() else {}
    recipe = store.recipe()
    return Summary(
        store=store,
        name=str(recipe.get("name") or store.root.resolve().name),
        recipe=recipe,
        labels=labels,
        rows=rows,
        rejects=rejects,
        fingerprint=first.fingerprint,
        planned=planned,
        failed=len(store.failures()),
        weights=str(identity.get("model") or ""),
        versions=first.versions,
    )


def _licence_of(model: str, shown: str) -> str:
    """What the card of a model says of its licence, in words that stand for themselves."""
    folders = (weights.MODELS / model, Path(model).expanduser())
    folder = next((path for path in folders if (path / "README.md").is_file()), None)
    if folder is None and weights.HUB_ID.fullmatch(model):
        with suppress(MissingError):
            folder = weights.from_hub(model, offline=True)
    found = weights.licence(folder) if folder else ""
    if not found:
        return f"unknown: see the card of the model {shown}"
    return f"{found}: see the card of the model {shown}" if found in ("other", "unknown") else found


def measure_areas(summary: Summary, limit: int) -> dict[str, list[float]]:
    """Class name -> its share of the image in percent, for those of at most ``limit`` images that show it."""
    areas: dict[str, list[float]] = {label.name: [] for label in summary.labels}
    names = {label.id: label.name for label in summary.labels}
    for row in evenly([row for row in summary.rows if row.get("mask")], limit):
        for class_id, inside in summary.regions(row).items():
            areas[names[class_id]].append(100 * float(inside.mean()))
    return areas


def choose(rows: Sequence[Row], limit: int) -> list[Row]:
    """At most ``limit`` rows, evenly chosen; where some have a mask and some none, half of the places go to each."""
    masked = [place for place, row in enumerate(rows) if row.get("mask")]
    others = [place for place, row in enumerate(rows) if not row.get("mask")]
    fair = max(limit - len(others), limit // 2 if others else limit)
    first = evenly(masked, fair)
    return [rows[place] for place in sorted([*first, *evenly(others, limit - len(first))])]


def evenly(things: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` things, evenly chosen from first to last; all where there are no more."""
    if len(things) <= limit:
        return list(things)
    return [things[place] for place in np.linspace(0, len(things) - 1, limit).round().astype(int)]


def ordered(counts: Mapping[str, int]) -> Counter[str]:
    """Counts with the most frequent first; equal counts by name, so that the order is always the same."""
    return Counter(dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))))
