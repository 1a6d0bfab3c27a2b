"""What a run says: what it is going to do, what it did, and both as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrsynth.console import console, counted
from cxrsynth.weights import read_json

if TYPE_CHECKING:
    from cxrsynth.factory.plan import Plan

LOADING = "loading model"


def loading(plan: Plan) -> str:
    """What a run does before its first image, if it has a model to load and anything to make."""
    return LOADING if plan.todo and plan.job.model is not None else ""


def tell(summary: Any, folder: Path) -> None:
    """The end of a run in a few lines."""
    from cxrsynth.curate import words

    rejected = sum(summary.rejected.values())
    console.print(
        f"{summary.kept} of {counted(summary.planned, 'slot')} filled in {folder}"
        + (f", {summary.missing} missing" if summary.missing else "")
    )
    if rejected:
        often = sorted(summary.rejected.items(), key=lambda item: -item[1])[:6]
        reasons = ", ".join(f"{words.full(reason)} {times}" for reason, times in often)
        console.print(f"{counted(rejected, 'attempt')} rejected: {reasons}")
    if summary.kept:
        console.print(f"open {folder / 'preview.png'} or {folder / 'report.html'}")


def show_plan(plan: Plan) -> None:
    """What is going to happen, in two lines."""
    recipe = plan.job.recipe
    source = "no weights" if plan.job.model is None else recipe.model
    size = f"{counted(recipe.count, 'slot')} in {counted(recipe.shards, 'shard')}"
    console.print(f"{recipe.name}: {size}, {recipe.generator} ({source}), {plan.job.fingerprint[:12]}")
    if plan.job.model is not None and recipe.sampler.scheduler is not None:
        own = read_json(plan.job.model / "scheduler" / "scheduler_config.json").get("_class_name", "unknown")
        console.print(f"  sampled with {recipe.sampler.scheduler}, as the recipe says; the model's own is {own}")
    work = f"{counted(len(plan.done), 'shard')} done, {len(plan.todo)} to make, about {plan.needed / 2**20:.0f} MiB"
    console.print(f"  {work}, into {plan.job.out}", soft_wrap=True)


def tell_cut(prompts: int) -> None:
    """Say that prompts will be cut, and how many."""
    if prompts:
        over = "is" if prompts == 1 else "are"
        console.print(f"{counted(prompts, 'prompt')} {over} over the model's token limit: what is beyond it is cut")


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "fingerprint": plan.job.fingerprint,
        "out": str(plan.job.out),
        "done": plan.done,
        "todo": plan.todo,
        "slots": plan.slots,
        "bytes_needed": plan.needed,
        "bytes_free": plan.free,
    }


def emit(value: Any) -> None:
    """JSON on stdout."""
    print(json.dumps(value, indent=2, sort_keys=True))
