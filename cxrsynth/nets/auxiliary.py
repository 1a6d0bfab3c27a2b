"""The small networks beside a model, built from the file that says how: affinity, mask_head, anatomy."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from cxrsynth.errors import MissingError
from cxrsynth.weights import AUXILIARY, about

AnyNet = TypeVar("AnyNet", bound=nn.Module)


def read(kind: type[AnyNet], path: Path, key: str) -> AnyNet:
    """The network in a file, on the CPU in float32 and in eval mode.

    Args:
        kind: its class; the file holds the arguments.
        key: as which a recipe names such a file, see `weights.AUXILIARY`.

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
    except (SafetensorError, OSError, RuntimeError, TypeError, KeyError) as error:
        text = f"{path} cannot be read as {what} weights: {error}"
        raise MissingError(text, f"make it again with '{make}'") from error
    return net.eval()
