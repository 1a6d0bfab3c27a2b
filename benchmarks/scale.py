"""Do time and memory stay in bounds when a dataset grows? Phantom chests, 64 x 64, at several sizes.

    python -m benchmarks.scale                          # 1,000 and 4,000 images, some minutes
    python -m benchmarks.scale 1000 10000 100000        # whole; about 5 GB of disk

Every stage runs in a process of its own: planning a new dataset, making it, planning and running it again when all
is done, status, verify, and the pages (card, contact sheet, report). Memory is what a stage takes beside its code.
The dataset grows from size to size, as ``--count`` lets it. Linear means: from one size to the next the seconds grow
as the images do, or less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cxrsynth.evaluate.results import Record, record, write
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.recipe import Recipe, parse

SHARD = 50
# Growth of the seconds over growth of the images between the last two sizes; above it a stage is not linear.
LINEAR = 1.3


def recipe_of(count: int) -> Recipe:
    """Chests of 64 x 64 pixels, all kept, labels as they were drawn: what is measured is the bookkeeping."""
    names = ("right_lung", "left_lung", "heart")
    return parse(
        {
            "name": "scale",
            "count": count,
            "shard": SHARD,
            "generator": "phantom",
            "classes": [{"name": name, "id": i, "phrase": name.replace("_", " ")} for i, name in enumerate(names, 1)],
            "prompts": {"templates": ["frontal chest x-ray, {view}"], "vocabulary": {"view": ["PA", "AP"]}},
            "sampler": {"height": 64, "width": 64, "batch": 16},
            "masks": {"use": "control", "refine": [], "keep_maps": False},
            "curate": {"checks": ["present"], "attempts": 2},
        }
    )


def plan(folder: Path, count: int) -> None:
    """What ``check`` and the begin of ``generate`` do."""
    make_plan(recipe_of(count), folder)


def make(folder: Path, count: int) -> None:
    """All shards that are missing, in one process."""
    run(make_plan(recipe_of(count), folder))


def status(folder: Path, count: int) -> None:
    """What ``status`` reads."""
    from cxrsynth.cli.look import state

    state(folder)


def verify(folder: Path, count: int) -> None:
    """Every file against its receipt."""
    from cxrsynth.factory.verify import verify as check

    problems = list(check(folder))
    assert not problems, problems[:3]


def pages(folder: Path, count: int) -> None:
    """Card, contact sheet and report."""
    from cxrsynth.cli.pages import write_pages

    write_pages(folder)


# In this order; "again" finds everything done.
STAGES: dict[str, Callable[[Path, int], None]] = {
    "plan": plan,
    "make": make,
    "again": make,
    "status": status,
    "verify": verify,
    "pages": pages,
}


def resident(peak: bool) -> float:
    """Resident memory of this process in MiB, now or at most so far; 0 where the system does not say."""
    said = Path("/proc/self/status")
    if not said.exists():
        return 0.0
    name = "VmHWM" if peak else "VmRSS"
    return next(int(line.split()[1]) / 1024 for line in said.read_text().splitlines() if line.startswith(name))


def measured(stage: str, folder: Path, count: int) -> tuple[float, float]:
    """Seconds of a stage, and MiB that it took at most beside what it began with, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--stage", stage, "--folder", str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, mib = json.loads(done.stdout.splitlines()[-1])
    return float(seconds), float(mib)


def one_stage(stage: str, folder: Path, count: int) -> None:
    """Run a stage here and print its figures."""
    STAGES[stage](folder / "nothing", 1) if stage == "plan" else recipe_of(1)  # what is loaded once
    before, start = resident(peak=False), time.perf_counter()
    STAGES[stage](folder, count)
    print(json.dumps([time.perf_counter() - start, max(0.0, resident(peak=True) - before)]))


def growth(figures: dict[int, float]) -> float:
    """Growth of a figure over growth of the images, between the last two sizes; nan for one size."""
    if len(figures) < 2:
        return float("nan")
    small, large = sorted(figures)[-2:]
    return figures[large] / max(figures[small], 1e-9) / (large / small)


def measure(sizes: list[int], folder: Path, out: Path) -> list[str]:
    """All stages at all sizes; returns those that are not linear."""
    took: dict[str, dict[int, float]] = {stage: {} for stage in STAGES}
    made = 0
    for count in sorted(sizes):
        records: list[Record] = []
        for stage in STAGES:
            seconds, mib = measured(stage, folder, count)
            images = count - made if stage == "make" else count
            took[stage][images] = seconds
            for metric, value in (("seconds", seconds), ("ms_per_image", 1000 * seconds / images), ("mib", mib)):
                found = record("scale", stage, str(count), metric, (value, value, value), images)
                records.append({**found, "lo": None, "hi": None, "command": "python -m benchmarks.scale"})
            print(f"{count:8,d} {stage:8s} {seconds:9.2f} s {1000 * seconds / images:8.3f} ms an image {mib:8.1f} MiB")
        made = count
        write(out, records)  # size by size: what is stopped keeps what it has
    return [stage for stage, figures in took.items() if stage != "plan" and growth(figures) > LINEAR]


def main() -> None:
    """Measure, write ``results/scale.json``, and fail where a stage is not linear."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sizes", type=int, nargs="*", default=[1000, 4000])
    options.add_argument("--out", type=Path, default=Path("results/scale.json"))
    options.add_argument("--folder", type=Path, help="where the dataset is made; a temporary folder by default")
    options.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.stage is not None:
        one_stage(chosen.stage, chosen.folder, chosen.sizes[0])
        return
    with tempfile.TemporaryDirectory(prefix="cxrsynth-scale-") as temporary:
        bad = measure(chosen.sizes, chosen.folder or Path(temporary) / "data", chosen.out)
    print(json.dumps({"not_linear": bad}))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
