"""The dataset card: README.md for people and hubs, croissant.json for programs, preview.png for the eye.

The same dataset always gives the same bytes: no machine, no paths from outside the dataset, and no date but that of the
day the card was first written.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from pathlib import Path

from cxrsynth.data.documents import read_json
from cxrsynth.data.paths import inside
from cxrsynth.encoding import dumps
from cxrsynth.errors import UsageError
from cxrsynth.pages.card.croissant import croissant
from cxrsynth.pages.card.hub import dataset_files
from cxrsynth.pages.card.readme import readme
from cxrsynth.pages.sheet import Item, contact_sheet, encode
from cxrsynth.pages.summary import Summary, choose, summarise


def write_card(store_root: Path, summary: Summary | None = None) -> list[Path]:
    """Write ``README.md``, the metadata files that it names, and ``croissant.json`` into a dataset.

    Args:
        summary: its facts, where they were read already.

    Raises:
        UsageError: the folder is no dataset, or it holds no image.
    """
    summary = summary or _kept(store_root)
    # The card names the metadata files: it comes after them.
    written = [summary.store.write(name, data) for name, data in dataset_files(summary).items()]
    return [
        *written,
        summary.store.write("README.md", readme(summary).encode()),
        summary.store.write("croissant.json", dumps(croissant(summary, _published(summary)))),
    ]


def write_preview(store_root: Path, n: int = 16, summary: Summary | None = None) -> Path:
    """Write ``preview.png``: ``n`` images, evenly chosen, with their masks; ``summary`` as in `write_card`."""
    summary = summary or _kept(store_root)
    chosen = choose(summary.rows, n)
    items = []
    for row in chosen:
        image, regions = summary.store.load_image(row), summary.regions(row)
        title = f"{row['key']} · {row['split']}" if row.get("split") else str(row["key"])
        layers = regions if row.get("mask") else None
        items.append(Item(image, layers=layers, title=title, text=str(row.get("prompt") or "")))
    legend = {label.name: label.id for label in summary.labels}
    title = f"{summary.name}: {len(chosen)} of {len(summary.rows):,} images"
    return summary.store.write("preview.png", encode(contact_sheet(items, cell=192, legend=legend, title=title)))


def _published(summary: Summary) -> str:
    """The date of a dataset: the one its card has, else today."""
    with suppress(UsageError, LookupError, TypeError, ValueError):
        stated = read_json(inside(summary.store.root, "croissant.json"))["datePublished"]
        return date.fromisoformat(stated).isoformat()
    return date.today().isoformat()


def _kept(root: Path) -> Summary:
    summary = summarise(root)
    if not summary.rows:
        hint = f"see why in {summary.store.root / 'report.html'}"
        raise UsageError(f"{summary.store.root} holds no kept image", hint)
    return summary
