"""``cxrsynth export-onnx``: a trained network as a file that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxrsynth.cli.answer import answer
from cxrsynth.cli.options import Json


def export_onnx(
    weights: Annotated[Path, typer.Argument(help="Run folder of train-seg or train-cls.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("network.onnx"),
    as_json: Json = False,
) -> None:
    """Write a trained network as ONNX: image in 0..1 in, logits out, any number of images at once.

    Example:

        cxrsynth export-onnx runs/lung -o lung.onnx
    """
    from cxrsynth.console import console
    from cxrsynth.data.paths import refuse_overlap
    from cxrsynth.nets.onnx import export

    refuse_overlap(weights / "model" if (weights / "model").is_dir() else weights, out)
    made = export(weights, out)
    console.print(f"{made.kind} for images of {made.size} x {made.size} in {made.path}: {', '.join(made.names)}")
    if as_json:
        answer({"path": str(made.path), "kind": made.kind, "names": made.names, "size": made.size}, as_json)
