"""A whole comparison on phantoms, in minutes on a CPU: it ends with an error when a figure leaves its range.

    python -m benchmarks.smoke

Two sets of phantom chests play the real and the synthetic images. They come from the same program, so the synthetic
ones have to be worth what the real ones are; a figure outside its range means that something in the chain is broken.
Then the benchmark of findings on a handful of chests (`benchmarks.findings.smoke`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.findings.smoke import check
from cxrsynth.compare import CompareRecipe, compare, updates, write_report
from cxrsynth.console import console, meter
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.recipe import load

SIZE, IMAGES = 64, 96
# (arm, class, metric) -> smallest and largest value that is believed.
RANGES: dict[tuple[str, str, str], tuple[float, float]] = {
    ("R-all", "mean", "dice"): (0.88, 1.0),
    ("S-all", "mean", "dice"): (0.88, 1.0),
    ("R-8+S-all", "mean", "dice"): (0.88, 1.0),
    ("S-all>R-8", "mean", "dice"): (0.85, 1.0),
    ("S-all / R-all", "mean", "dice_ratio"): (0.93, 1.07),
    ("S-all teacher / R-all", "mean", "dice_ratio"): (0.93, 1.07),
    ("R-all", "heart", "hd95"): (0.0, 6.0),
}


def phantoms(folder: Path, seed: int) -> Path:
    """A dataset of phantom chests; what is there already is kept."""
    changes = [
        f"sampler.height={SIZE}", f"sampler.width={SIZE}", "split={train: 0.7, val: 0.1, test: 0.2}",
    ]  # fmt: skip
    recipe = load(Path("phantom"), {"seed": seed, "count": IMAGES}, changes)
    run(make_plan(recipe, folder))
    return folder


def recipe(real: Path, drawn: Path) -> CompareRecipe:
    """Every arm once, with a network and pictures as small as can still learn."""
    return CompareRecipe.model_validate(
        {
            "name": "smoke",
            "real": real,
            "synthetic": drawn,
            "tests": [{"data": real}],
            "real_patients": [8, 0],
            "synthetic_images": [0],
            "seeds": [0],
            "train": {
                "encoder": "resnet18",
                "options": {"decoder_channels": [64, 32, 16, 16, 8]},
                "size": SIZE,
                "updates": 120,
                "lr": 1e-3,
            },
        }
    )


def main() -> None:
    """Run it and check the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, help="go on in this folder; a fresh one by default")
    # Finished cells are not trained again, so an old folder would not test new code.
    out = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="cxrsynth-smoke-"))
    small = recipe(phantoms(out / "real", 1), phantoms(out / "drawn", 2))
    total, done = updates(small, out / "compare")
    with meter(total, "smoke", done) as bar:
        outcome = compare(small, out / "compare", "cpu", bar.set, workers=max(1, min(4, os.cpu_count() or 1)))
    write_report(small, outcome, out / "compare")
    found = {(item["arm"], item["class"], item["metric"]): item["value"] for item in outcome.records}
    wrong = []
    for name, (low, high) in RANGES.items():
        value = found.get(name)
        inside = value is not None and low <= value <= high
        console.print(f"{'ok   ' if inside else 'WRONG'} {' '.join(name)}: {value} in {low} ... {high}")
        if not inside:
            wrong.append(" ".join(name))
    wrong += check(out / "findings")
    print(json.dumps({"wrong": wrong, "report": str(out / "compare/report.html")}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
