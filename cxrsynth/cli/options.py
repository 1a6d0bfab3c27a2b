"""Options that mean the same in every command, declared once, each with its environment variable.

What can be done when the words are read is done here: a device that is none is refused, ``--offline`` closes the hub
for all libraries, ``--threads`` is set before the first of them starts its own.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Literal

import typer

from cxrsynth.errors import UsageError
from cxrsynth.pool import cores

DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
# Read by OpenMP, MKL and OpenBLAS when they are loaded; torch asks them.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HUB_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def _form(device: str) -> str:
    """A name of a device; whether it is there is seen where it is used, which may be another machine.

    Raises:
        UsageError: no such name.
    """
    if not DEVICES.fullmatch(device):
        raise UsageError(f"'{device}' is not a device", "auto, cpu, cuda, cuda:1 or mps")
    return device


def _present(device: str) -> str:
    """A device of this machine.

    Raises:
        UsageError: no such name, or the device is absent.
    """
    if _form(device) not in ("auto", "cpu"):
        from cxrsynth.device import resolve

        resolve(device)
    return device


def _close_hub(offline: bool) -> bool:
    if offline:
        os.environ.update(dict.fromkeys(HUB_VARIABLES, "1"))
    return offline


def _limit_threads(threads: int | None) -> int | None:
    if threads is None and not any(name in os.environ for name in THREAD_VARIABLES):
        threads = cores()  # torch counts the machine's, whatever a container may use
    if threads is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
    return threads


DEVICE_HELP = "auto, cpu, cuda, cuda:1 or mps."
Device = Annotated[str, typer.Option("--device", envvar="CXRSYNTH_DEVICE", help=DEVICE_HELP, callback=_present)]
# Of work that may run on other machines, whose devices this one does not know.
FarDevice = Annotated[str, typer.Option("--device", envvar="CXRSYNTH_DEVICE", help=DEVICE_HELP, callback=_form)]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        envvar="CXRSYNTH_OFFLINE",
        help="Open no connection, whatever is missing.",
        callback=_close_hub,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=1024,
        envvar="CXRSYNTH_THREADS",
        help="CPU threads of one process; by default the cores it may use.",
        callback=_limit_threads,
        show_default=False,
    ),
]
Polarity = Annotated[
    Literal["auto", "keep"],
    typer.Option(
        "--polarity",
        help="auto: inverted, upside-down and sideways images are put right, mirrored ones refused; keep: as they are.",
    ),
]
Json = Annotated[bool, typer.Option("--json", envvar="CXRSYNTH_JSON", help="Write the result to stdout as JSON.")]
Model = Annotated[
    str, typer.Option("--model", envvar="CXRSYNTH_MODEL", help="mini (bundled), a diffusers folder, or a hub id.")
]
# None: the model of the recipe.
OtherModel = Annotated[
    str | None,
    typer.Option("--model", envvar="CXRSYNTH_MODEL", help="mini (bundled), a diffusers folder, or a hub id."),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        envvar="CXRSYNTH_BASE",
        help="Model whose other parts go with a single file or a folder that holds a denoiser only.",
    ),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", envvar="CXRSYNTH_LORA", help="LoRA folder merged into the model: DIR or DIR:SCALE. Repeatable."
    ),
]
