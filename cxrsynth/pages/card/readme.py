"""README.md: what a dataset is, how it was made, and what it is not good for."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, StrictUndefined

from cxrsynth.curate import words
from cxrsynth.pages.card.hub import dataset_configs
from cxrsynth.pages.markdown import cell, code
from cxrsynth.pages.summary import Label, Summary, measure_areas

MEASURED = 1000  # masks whose areas are measured
# Licences that hubs know by name; what is not here is given as "other" with its own words.
SPDX = ("apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "mit")


def readme(summary: Summary) -> str:
    """The dataset card as Markdown, with the head that dataset hubs read."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(code=code, cell=cell, said=words.reason)
    template = environment.from_string(files(__package__).joinpath("card.md").read_text(encoding="utf-8"))
    card = summary.recipe.get("card") or {}
    page = template.render(
        head=yaml.safe_dump(front_matter(summary), sort_keys=False, allow_unicode=True),
        summary=summary,
        title=card.get("title") or summary.name,
        description=card.get("description") or "",
        licences=summary.licences(),
        citation=citation(summary),
        splits=summary.splits(),
        table=class_table(summary),
        measured=min(MEASURED, sum(1 for row in summary.rows if row.get("mask"))),
        labelled=sum(1 for row in summary.rows if row.get("mask")),
        overlapping=[item["name"] for item in summary.recipe.get("classes", []) if item.get("overlap")],
        imposed=(summary.recipe.get("masks") or {}).get("use") == "control",
        model=summary.model,
    )
    return page.rstrip() + "\n"


def front_matter(summary: Summary) -> dict[str, Any]:
    """The head of the card in the form of the Hugging Face hub."""
    found = list(summary.licences())
    known = (spdx(found[0]) if len(found) == 1 else None) or "other"
    title = (summary.recipe.get("card") or {}).get("title") or summary.name
    head: dict[str, Any] = {"pretty_name": title, "license": known}
    if known == "other":
        head["license_name"] = found[0] if len(found) == 1 else "several, see below" if found else "not stated"
    return {
        **head,
        "language": ["en"],
        "task_categories": ["image-segmentation", "text-to-image"],
        "annotations_creators": ["machine-generated" if summary.synthetic or summary.simulated else "found"],
        "size_categories": [_size(len(summary.rows))],
        "tags": tags(summary),
        "configs": dataset_configs(summary),
    }


def citation(summary: Summary) -> str:
    """How to cite a dataset: what its recipe says, else for synthetic images its name and fingerprint."""
    stated = str((summary.recipe.get("card") or {}).get("citation") or "")
    if stated or not summary.synthetic:
        return stated
    title = (summary.recipe.get("card") or {}).get("title") or summary.name
    version = summary.versions.get("cxrsynth", "")
    return f"{title}. Generated with cxrsynth {version}, fingerprint {summary.fingerprint[:12]}.".replace(" ,", ",")


def spdx(licence: str) -> str | None:
    """The name by which hubs know a licence, or None."""
    name = licence.lower().replace(" ", "-")
    return name if name in SPDX else None


def tags(summary: Summary) -> list[str]:
    """Words to find the dataset by."""
    return [
        "chest-x-ray",
        "radiology",
        "segmentation",
        *(["synthetic"] if summary.synthetic else []),
        *(["simulated-findings"] if summary.simulated else []),
    ]


def class_table(summary: Summary) -> list[dict[str, Any]]:
    """Per class: id, name, phrase, images per split, mean area in percent of the image where it is seen."""
    areas = measure_areas(summary, MEASURED)
    asked = {label.name: _asked(summary, label) for label in summary.labels}
    return [
        {
            "label": label,
            "asked": asked[label.name],
            "seen": len(areas[label.name]),
            "mean": float(np.mean(areas[label.name])) if areas[label.name] else None,
        }
        for label in summary.labels
    ]


def _asked(summary: Summary, label: Label) -> dict[str, int]:
    """Split -> images whose prompt asks for the class, or whose reference mask has it."""
    found: dict[str, int] = {}
    for row in summary.rows:
        there = row["present"].get(label.name, False) if "present" in row else label.name in row.get("mask_classes", ())
        if there:
            found[str(row.get("split"))] = found.get(str(row.get("split")), 0) + 1
    return found


def _size(count: int) -> str:
    """The hub's size classes."""
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if count < limit:
            return name
    return "n>1M"
