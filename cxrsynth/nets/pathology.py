"""LoRA on the denoiser that is switched on while a finding is generated, and off for the rest of the image.

XReal (arXiv 2403.09240) draws findings with a backbone that knows what they look like somewhere; a model that has read
only what a whole image shows knows that less well. The base's own weights are never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cxrsynth.auxiliary_files import AUXILIARY, about
from cxrsynth.errors import MismatchError, MissingError, RecipeError
from cxrsynth.nets.lora import inject

KEY = "adapter"


class Adapter:
    """A LoRA (Hu et al., ICLR 2022) beside layers of a network; off until it is asked for.

    Args:
        net: changed in place: every target layer gets a LoRA that starts as no change, all else is frozen.
        rank: of the LoRA; its scale is 1.
        targets: ends of the names of linear and convolution layers.

    Raises:
        RecipeError: no layer is called so.
    """

    def __init__(self, net: nn.Module, rank: int, targets: Sequence[str]) -> None:
        inject(net, targets, rank)
        self.layers = [layer for layer in net.modules() if isinstance(layer, BaseTunerLayer)]
        self.parameters = {name: value for name, value in net.named_parameters() if "lora_" in name}
        self.switch(False)

    def switch(self, on: bool) -> None:
        """Let the network feel the LoRA, or not."""
        for layer in self.layers:
            layer.enable_adapters(on)

    @contextmanager
    def active(self) -> Iterator[None]:
        """On inside the block."""
        self.switch(True)
        try:
            yield
        finally:
            self.switch(False)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take weights as `parameters` names them.

        Raises:
            KeyError, RuntimeError: they are of other layers or shapes.
        """
        for name, parameter in self.parameters.items():
            parameter.data.copy_(tensors[name])


def attach(path: Path, net: nn.Module, model: str) -> Adapter:
    """Put the adapter in a file on the denoiser it was trained for.

    Args:
        model: digest of the model that ``net`` is of.

    Raises:
        MissingError: the file is not there, or no adapter.
        MismatchError: it was trained on another model.
    """
    told = about(path, KEY)
    make = AUXILIARY[KEY].make
    if told["model"] != model:
        raise MismatchError(
            f"the pathology adapter {path.name} was trained on another model than this one",
            f"make one for it with '{make}' and --model, or type --set control.inpaint.adapter=null",
        )
    try:
        adapter = Adapter(net, told["net"]["rank"], told["net"]["targets"])
        adapter.load(load_file(path))
    except (SafetensorError, OSError, RuntimeError, RecipeError, KeyError) as error:
        raise MissingError(f"{path} cannot be read as pathology weights: {error}", f"make it again: {make}") from error
    return adapter
