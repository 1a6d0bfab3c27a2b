"""Trained networks as ONNX: one file that runs without torch, with everything in it that the network does to an image.

Input ``image`` (N, 1, S, S) float32 in 0..1, output ``logits``: (N, K + 1, S, S) of a segmentation network, background
first, or (N, K) of a classifier. Names of the outputs, S and what was learned are in the file's metadata.
"""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from cxrsynth.errors import MissingError
from cxrsynth.files import write_atomic
from cxrsynth.nets import classifier, segmenter
from cxrsynth.nets.network_folder import locate, own_config


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        kind: ``segmentation network`` or ``classifier``.
        names: of the output channels.
        size: side of the images it takes.
    """

    path: Path
    kind: str
    names: tuple[str, ...]
    size: int


def library() -> ModuleType:
    """The onnx package.

    Raises:
        MissingError: it, or the translator of torch, is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingError(
            f"writing ONNX needs {error.name}, which is not installed", "pip install 'cxrsynth[onnx]'"
        ) from error
    module: ModuleType = onnx
    return module


def export(folder: Path, out: Path) -> Exported:
    """Write what train-seg or train-cls trained as one ONNX file.

    Args:
        folder: the run, or its ``model`` folder.

    Raises:
        MissingError: no trained network there, or a package is not installed.
        MismatchError: the weights were changed.
    """
    onnx = library()
    device = torch.device("cpu")
    config = own_config(locate(folder, "network", "train-seg"))
    network: nn.Module
    if "labels" in config:
        found = classifier.load(folder, device)
        network, names, size, kind = found.network, found.labels, found.size, "classifier"
    else:
        known = segmenter.load(folder, device)
        network, names, size, kind = known.network, ("background", *known.classes), known.size, "segmentation network"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about Python that it has run once
        program: Any = torch.onnx.export(
            network,
            (torch.zeros(2, 1, size, size),),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("images")},),
            dynamo=True,
            verbose=False,
        )
    program.save(buffer)
    model = onnx.load_from_string(buffer.getvalue())
    told = {
        "kind": kind,
        "names": json.dumps(names),
        "size": str(size),
        "sha256": config["sha256"],
        "maker": "cxrsynth",
    }
    onnx.helper.set_model_props(model, told)
    onnx.checker.check_model(model)
    write_atomic(out, model.SerializeToString())
    return Exported(out, kind, names, size)
