"""The small networks beside a model: written with what they say of themselves, built from the file that says how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cxrsynth.auxiliary_files import AUXILIARY, about
from cxrsynth.encoding import sha256
from cxrsynth.errors import MissingError, UsageError
from cxrsynth.files import write_atomic

AnyNet = TypeVar("AnyNet", bound=nn.Module)


def read(kind: type[AnyNet], path: Path, key: str) -> AnyNet:
    """The network in a file, on the CPU in float32 and in eval mode.

    Args:
        kind: its class; the file holds the arguments.
        key: as which a recipe names such a file, see `auxiliary_files.AUXILIARY`.

    Raises:
        MissingError: the file is not there, or holds no such network.
    """
    what, _, make = AUXILIARY[key]
    if not path.is_file():
        raise MissingError(f"there is no {what} network at {path}", f"make it with '{make}'")
    told = about(path, key)
    try:
        net = kind(**told["net"])
        net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        text = f"{path} cannot be read as {what} weights: {error}"
        raise MissingError(text, f"make it again with '{make}'") from error
    return net.eval()


def target(out: Path, example: str) -> Path:
    """The file to write to, looked at before anything is trained.

    Raises:
        UsageError: it does not end in ``.safetensors``.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} does not end in .safetensors", f"for example: -o {example}.safetensors")
    return out


def write(
    out: Path, key: str, net: Mapping[str, Any], tensors: Mapping[str, Tensor], told: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a small network, in the type of its tensors.

    Args:
        key: as which a recipe names such a file, see `auxiliary_files.AUXILIARY`.
        net: the arguments it is built with.
        told: what else it says of itself.

    Returns:
        ``{"weights", "sha256", "bytes"}``.
    """
    # One entry: several would come in another order, and the file with another sha256, each time.
    said = json.dumps({"format": AUXILIARY[key].format, "net": net, **told}, sort_keys=True)
    data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, {"cxrsynth": said})
    write_atomic(out, data)
    return {"weights": str(out), "sha256": sha256(data), "bytes": len(data)}
