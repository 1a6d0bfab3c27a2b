"""generate, preview, check, refine."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cxrsynth.cli.options import Base, Device, FarDevice, Json, Lora, Offline, OtherModel, Threads
from cxrsynth.cli.pages import pages_are_stale, write_pages
from cxrsynth.cli.told import LOADING, emit, loading, plan_json, show_plan, tell, tell_cut
from cxrsynth.clock import CLOCK
from cxrsynth.console import console, counted, meter
from cxrsynth.errors import ShardsFailed, UsageError
from cxrsynth.lock import writing

if TYPE_CHECKING:
    from cxrsynth.recipe import Recipe

VARIABLE = "CXRSYNTH_PROMPTS"
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        "--recipe",
        "-p",
        envvar=VARIABLE,
        help="Recipe: a YAML file or the name of a bundled one; the same as without --prompts.",
    ),
]
RecipeArgument = Annotated[
    Path, typer.Argument(help="Recipe: a YAML file or the name of a bundled one ('cxrsynth recipes').")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", envvar="CXRSYNTH_OUT", help="Dataset folder; default out/NAME.")
]
Count = Annotated[
    int | None,
    typer.Option("--count", "-n", envvar="CXRSYNTH_COUNT", help="Slots to fill; raising it extends a dataset."),
]
Seed = Annotated[int | None, typer.Option("--seed", envvar="CXRSYNTH_SEED", help="Recipe seed.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", envvar="CXRSYNTH_SET", help="Change one value of the recipe: --set sampler.batch=8. Repeatable."
    ),
]


def generate(
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe: a YAML file or the name of a bundled one ('cxrsynth recipes').")
    ] = None,
    prompts: RecipeOption = None,
    out: Out = None,
    count: Count = None,
    seed: Seed = None,
    model: OtherModel = None,
    base: Base = None,
    lora: Lora = None,
    device: FarDevice = "auto",
    threads: Threads = None,
    engine: Annotated[
        str, typer.Option("--engine", envvar="CXRSYNTH_ENGINE", help="Where the work runs: local, ray.")
    ] = "local",
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", envvar="RAY_ADDRESS", help="Ray cluster; default: this machine.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=1,
            max=1024,
            envvar="CXRSYNTH_WORKERS",
            help="Worker processes, one per GPU; 1 works in this process.",
        ),
    ] = 1,
    shard: Annotated[
        str,
        typer.Option("--shard", envvar="CXRSYNTH_SHARD", help="Make only part i of n (0/4 ... 3/4), for job arrays."),
    ] = "0/1",
    resume: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(
            "--resume",
            envvar="CXRSYNTH_RESUME",
            help="auto: continue what is there; always: there has to be something; never: there must not.",
        ),
    ] = "auto",
    assignments: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and plan, make nothing.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time went: draw, taps, decode, labels, files.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Make a dataset: radiographs, masks, receipts. Run the same command again to resume.

    Writes images/, masks/, meta/ and a report.html into the dataset folder. Example:

        cxrsynth generate --prompts recipes/lung.yaml --count 200 -o out/lung200
    """
    from cxrsynth import registry
    from cxrsynth.factory import plan as plans
    from cxrsynth.factory.run import run
    from cxrsynth.recipe import load

    loaded = load(
        one_recipe(recipe, prompts),
        {"count": count, "seed": seed, "model": model, "base": base, "lora": lora or None},
        assignments,
    )
    folder = out or Path("out") / loaded.name
    part = parse_part(shard)
    registry.load("engines", engine)  # an unknown name is said before a folder is made
    if profile and (engine != "local" or workers > 1):
        raise UsageError("--profile measures the work of one process", "leave --workers and --engine away")
    if engine == "ray" and ray_address is not None and offline:
        raise UsageError(
            f"--offline opens no connection, and the Ray cluster at {ray_address} is reached by one",
            "leave --offline or --ray-address (RAY_ADDRESS) away",
        )
    options: dict[str, Any] = {"workers": workers}
    if engine == "ray" and ray_address is not None:
        options["address"] = ray_address
    plan = plans.make_plan(loaded, folder, device=device, resume=resume, offline=offline, part=part)
    show_plan(plan)
    if dry_run:
        if as_json:
            emit(plan_json(plan))
        return
    if plan.todo:
        check_device(loaded, device)
        tell_cut(plans.check_prompts(plan))
    if profile:
        CLOCK.start()
    slots = plan.slots + sum(len(loaded.shard_indices(s)) for s in plan.done)
    bar_of = meter(slots, loaded.name, done=slots - plan.slots, waiting=loading(plan))
    with writing(folder, part), bar_of as bar:
        settled = float(slots - plan.slots)

        def advance(samples: float) -> None:
            # Regenerated slots would overshoot: a shard never counts for more than its slots.
            bar.set(min(bar.done + samples, settled + loaded.shard - 1))

        def finished(result: Any) -> None:
            nonlocal settled
            settled += len(loaded.shard_indices(result.shard))
            rejected = sum(getattr(result, "rejects", {}).values())
            bar.set(
                settled,
                f"shard {result.shard}: " + (f"{rejected} regenerated" if hasattr(result, "keys") else "FAILED"),
            )

        summary = run(plan, engine=engine, engine_options=options, part=part, advance=advance, on_shard=finished)
        if summary.shards_made or pages_are_stale(folder):
            write_pages(folder)
    tell(summary, folder)
    if profile:
        for name, seconds, share in CLOCK.shares(max(summary.seconds, 1e-9)):
            console.print(f"  {name:16} {seconds:8.1f} s  {share:4.0%}")
    if as_json:
        emit(asdict(summary) | ({"profile": CLOCK.seconds} if profile else {}))
    if summary.failed:
        raise ShardsFailed(
            f"{counted(len(summary.failed), 'shard')} failed: {summary.failed}",
            f"see {folder}/failures/, then run the same command again",
        )


def preview(
    recipe: RecipeArgument,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=256, help="Images.")] = 8,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG to write; default preview-NAME.png.")] = None,
    seed: Seed = None,
    model: OtherModel = None,
    base: Base = None,
    lora: Lora = None,
    device: Device = "auto",
    threads: Threads = None,
    assignments: Set = None,
    offline: Offline = False,
) -> None:
    """Look first: a contact sheet of a few samples with their masks. Nothing is rejected, so you see what the model
    makes.

    Example:  cxrsynth preview recipes/lung.yaml -n 8 --set sampler.guidance_scale=5
    """
    from cxrsynth.factory.preview import preview as draw_preview
    from cxrsynth.pages.sheet import save
    from cxrsynth.recipe import load

    loaded = load(recipe, {"seed": seed, "model": model, "base": base, "lora": lora or None}, assignments)
    check_device(loaded, device)
    with meter(number, f"preview {loaded.name}", waiting=LOADING if loaded.generator != "phantom" else "") as bar:
        sheet = draw_preview(loaded, number, device=device, offline=offline, advance=bar.advance)
    path = out or Path(f"preview-{loaded.name}.png")
    save(sheet, path)
    console.print(f"open {path}")


def check(
    recipe: RecipeArgument,
    out: Out = None,
    count: Count = None,
    model: OtherModel = None,
    base: Base = None,
    lora: Lora = None,
    assignments: Set = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Validate a recipe and say what it would make, with sample prompts; loads no model and writes nothing."""
    from cxrsynth.factory import plan as plans
    from cxrsynth.factory.prompts import spec
    from cxrsynth.recipe import load

    loaded = load(recipe, {"count": count, "model": model, "base": base, "lora": lora or None}, assignments)
    plan = plans.make_plan(loaded, out or Path("out") / loaded.name, offline=offline)
    tell_cut(plans.check_prompts(plan))
    show_plan(plan)
    for index in range(min(3, loaded.count)):
        console.print(f"  {index}: {spec(loaded, index).prompt}")
    if as_json:
        emit(plan_json(plan))


def refine(
    dataset: Annotated[Path, typer.Argument(help="Dataset with stored maps.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the relabelled dataset.")],
    masks: Annotated[
        Path | None, typer.Option("--masks", help="YAML file with a 'masks:' block (a recipe will do).")
    ] = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Relabel a dataset from its stored attention maps, without sampling. The old dataset stays as it is.

    Example:  cxrsynth refine out/lung -o out/lung-crf10 --set 'masks.refine=[{use: crf, iterations: 10}]'
    """
    from cxrsynth.factory.relabel import plan_relabel, relabel

    plan = plan_relabel(dataset, out, masks, assignments)
    with writing(out), meter(plan.slots, f"refine {dataset.name}") as bar:
        summary = relabel(plan, bar.advance)
        write_pages(out)
    tell(summary, out)
    if as_json:
        emit(asdict(summary))


def one_recipe(recipe: Path | None, prompts: Path | None) -> Path:
    """The recipe, which may be named with or without ``--prompts``; what stands in the environment gives way.

    Raises:
        UsageError: it is named twice, or not at all.
    """
    if recipe is not None and prompts is not None and str(prompts) != os.environ.get(VARIABLE):
        raise UsageError(f"two recipes: {recipe} and --prompts {prompts}", "name one; a run makes one dataset")
    chosen = recipe or prompts
    if chosen is None:
        raise UsageError("no recipe is named", "cxrsynth generate --prompts recipes/lung.yaml; all: cxrsynth recipes")
    return chosen


def parse_part(text: str) -> tuple[int, int]:
    """``i/n`` -> (i, n).

    Raises:
        UsageError: not of that form, or i is not below n.
    """
    index, slash, parts = text.partition("/")
    if not (slash and index.isdigit() and parts.isdigit() and int(index) < int(parts)):
        raise UsageError(f"--shard '{text}' is not i/n with i below n", "for four jobs: --shard 0/4, 1/4, 2/4, 3/4")
    return int(index), int(parts)


def check_device(recipe: Recipe, device: str) -> None:
    """Refuse an absent device before anything is loaded; the phantom needs none."""
    if recipe.generator != "phantom" or device != "auto":
        from cxrsynth.device import resolve

        resolve(device)
