"""The command line: parse, call one function, render. No command imports torch before it needs it."""

from __future__ import annotations

import os
import sys
import traceback
from concurrent.futures.process import BrokenProcessPool
from typing import Annotated, Any, NoReturn

import typer

from cxrsynth.cli import (
    auxiliary,
    classify,
    compare,
    control,
    evaluate,
    export,
    generate,
    grid,
    ingest,
    look,
    mask_head,
    masks,
    onnx,
    prune,
    segment,
    simulate,
    subset,
    train,
)
from cxrsynth.cli.apart import Apart
from cxrsynth.console import console, printable
from cxrsynth.errors import CxrError, ShardsFailed, UsageError
from cxrsynth.recipe import legacy

app = typer.Typer(
    name="cxrsynth",
    help="A factory for labelled chest X-rays.\n\n"
    "A text-conditioned diffusion model generates them, its cross-attention labels them.\n\n"
    "Start with:  [bold]cxrsynth preview recipes/lung.yaml[/bold]\n\n"
    "then:  [bold]cxrsynth generate --prompts recipes/lung.yaml[/bold]",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# Typer brings its own copy of click from 0.20 on and the real one before: take the base class from what it raises.
CLICK_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


INTERRUPTED = 130


def _version(asked: bool) -> None:
    if asked:
        from cxrsynth import __version__

        typer.echo(f"cxrsynth {__version__}")
        raise typer.Exit


# What one needs first; the rest is behind --help.
FIRST = """cxrsynth: a factory for labelled chest X-rays

  cxrsynth preview lung                     look at a few samples of a recipe
  cxrsynth generate --prompts lung          make the dataset
  cxrsynth annotate IMAGES -o OUT           label your own images
  cxrsynth compare --recipe compare/lung    is it as good as real data?

cxrsynth recipes   what is bundled        cxrsynth --help   every command"""


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", envvar="CXRSYNTH_QUIET", help="Errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", envvar="CXRSYNTH_DEBUG", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command."""
    console.quiet = quiet
    _state["debug"] = debug
    if context.invoked_subcommand is None:
        typer.echo(FIRST)


_state: dict[str, Any] = {"debug": False}

MAKE, LOOK, REAL, TRAIN, MEASURE = "Make", "Look", "Real images", "Train", "Measure"
app.command("generate", rich_help_panel=MAKE)(generate.generate)
app.command("preview", rich_help_panel=MAKE)(generate.preview)
app.command("grid", rich_help_panel=MAKE)(grid.grid)
app.command("check", rich_help_panel=MAKE)(generate.check)
app.command("refine", rich_help_panel=MAKE)(generate.refine)
app.command("prune", rich_help_panel=MAKE)(prune.prune)
app.command("confirm", rich_help_panel=MAKE)(prune.confirm)
app.command("balance", rich_help_panel=MAKE)(prune.balance)
app.command("control", rich_help_panel=MAKE)(control.control)
app.command("simulate", rich_help_panel=MAKE)(simulate.simulate)
app.command("recipes", rich_help_panel=LOOK)(look.recipes)
app.command("new", rich_help_panel=MAKE)(look.new)
app.command("status", rich_help_panel=LOOK)(look.status)
app.command("verify", rich_help_panel=LOOK)(look.verify)
app.command("report", rich_help_panel=LOOK)(look.report)
app.command("export", rich_help_panel=MAKE)(export.export)
app.command("export-onnx", rich_help_panel=TRAIN)(onnx.export_onnx)
app.command("open", rich_help_panel=LOOK)(look.open_report)
app.command("info", rich_help_panel=LOOK)(look.info)
app.command("ingest", rich_help_panel=REAL)(ingest.ingest)
app.command("subset", rich_help_panel=REAL)(subset.subset)
app.command("train-vae", rich_help_panel=TRAIN)(train.train_vae)
app.command("train-diffusion", rich_help_panel=TRAIN)(train.train_diffusion)
app.command("merge-adapter", rich_help_panel=TRAIN)(train.merge_adapter)
app.command("train-affinity", rich_help_panel=TRAIN)(masks.train_affinity)
app.command("train-anatomy", rich_help_panel=TRAIN)(auxiliary.train_anatomy)
app.command("train-pathology", rich_help_panel=TRAIN)(auxiliary.train_pathology)
app.command("train-mask-head", rich_help_panel=TRAIN)(mask_head.train_mask_head)
app.command("annotate", rich_help_panel=REAL)(masks.annotate)
app.command("train-seg", rich_help_panel=TRAIN)(segment.train_seg)
app.command("segment", rich_help_panel=REAL)(segment.segment)
app.command("train-cls", rich_help_panel=TRAIN)(classify.train_cls)
app.command("classify", rich_help_panel=REAL)(classify.classify)
app.command("compare", rich_help_panel=MEASURE)(compare.compare)
app.add_typer(evaluate.app, name="evaluate", rich_help_panel=MEASURE)
for command in (*app.registered_commands, *evaluate.app.registered_commands):
    command.cls = Apart


def main() -> None:
    """Entry point: errors become two lines and an exit code."""
    # Progress bars of the libraries would break ours; theirs say nothing about samples.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    if hasattr(sys.stdout, "reconfigure"):  # a name that is no text is shown, whatever the terminal can
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = app(legacy.arguments(sys.argv[1:]), standalone_mode=False)
        if code == INTERRUPTED:  # Typer turns Ctrl-C into a return value
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except CxrError as error:
        if _state["debug"]:
            traceback.print_exc()
        say(error)
        sys.exit(error.exit_code)
    except CLICK_ERROR as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        # Finished shards stay; the running one was dropped without a receipt.
        print("stopped; run the same command again to continue", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except (BrokenProcessPool, MemoryError, OSError) as error:
        known = cause(error)
        if known is None:
            crash()
        if _state["debug"]:
            traceback.print_exc()
        say(known)
        sys.exit(known.exit_code)
    except Exception:
        crash()


def crash() -> NoReturn:
    """The end of a command that met what nobody thought of."""
    traceback.print_exc()
    print("this is a bug in cxrsynth; the lines above say where", file=sys.stderr)
    sys.exit(1)


def cause(error: BaseException) -> CxrError | None:
    """What a failure of the machine is to the user; None where it is none of the machine's."""
    if isinstance(error, BrokenProcessPool):
        return ShardsFailed(
            "a process was killed, by the system for its memory or by somebody",
            "re-run the same command to continue; fewer --workers take less memory",
        )
    if isinstance(error, MemoryError):
        return ShardsFailed("not enough memory", "fewer --workers or a smaller batch take less")
    if isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename else ""
        return UsageError(
            f"{error.strerror or type(error).__name__}{where}", "check the path, its permissions and the disk"
        )
    return None


def say(error: CxrError) -> None:
    """Two lines: what is wrong, and the next thing to type. Shown also with --quiet."""
    print(f"error: {printable(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"  try: {printable(error.hint)}", file=sys.stderr)
