"""cxrsynth: a factory for labelled chest X-rays.

    import cxrsynth

    images = cxrsynth.generate("lung", n=4)     # images with masks, as numpy arrays
    label = cxrsynth.annotate("chest.png")      # the mask of a real image
    data = cxrsynth.Dataset("out/lung")         # a dataset on disk; data.torch(), data.hf(), data.monai()
    cxrsynth.export("out/lung", "coco", to="coco/")

Nothing heavy is imported before it is used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrsynth.api import Dataset, LabelledImage, annotate, export, generate

__version__ = "0.1.0"
__all__ = ["Dataset", "LabelledImage", "annotate", "export", "generate"]


class _Package(ModuleType):
    """Looks the interface up when it is used, and keeps its names.

    The rooms `cxrsynth.generate` and `cxrsynth.export` are called like two functions of the interface, and importing a
    room binds its name here. The functions win; rooms are reached by ``from cxrsynth.generate import ...``.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'cxrsynth' has no attribute '{name}'")
        return getattr(import_module("cxrsynth.api"), name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
