"""Small finished datasets of phantoms, without and with overlapping classes, every split in them."""

from pathlib import Path
from typing import Any

from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.recipe import parse
from tests.conftest import CLASSES, phantom_body

FINDINGS = [
    {"name": "opacity", "id": 4, "phrase": "opacity", "optional": True, "overlap": True},
    {"name": "effusion", "id": 9, "phrase": "pleural effusion", "optional": True, "overlap": True},
]
# Drawn slot by slot: with these shares the six slots have every split.
CARD = {"licence": "CC0-1.0"}
SPLIT = {"train": 2, "val": 1, "test": 1}


def make(out: Path, **changes: Any) -> Path:
    """A finished dataset of six phantoms, or as the changes say."""
    run(make_plan(parse(phantom_body(**{"split": SPLIT, "masks": {"refine": []}, "card": CARD, **changes})), out))
    return out


def layered(out: Path, **changes: Any) -> Path:
    """The same with findings that lie over the anatomy."""
    templates = ["opacity in the right upper zone", "left pleural effusion, opacity in the left lower zone"]
    prompts = {"templates": templates, "vocabulary": {}}
    return make(out, classes=[*CLASSES, *FINDINGS], prompts=prompts, **changes)
