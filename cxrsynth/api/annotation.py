"""Label real radiographs."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cxrsynth.api.dataset import Dataset
from cxrsynth.api.image import LabelledImage
from cxrsynth.api.recipes import folder_for, load_recipe
from cxrsynth.data.dicom import is_dicom, read_dicom
from cxrsynth.data.dicom_fields import DicomError
from cxrsynth.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from cxrsynth.ingest.radiograph import Polarity
    from cxrsynth.recipe import Recipe

    Picture = str | Path | np.ndarray | Image


@overload
def annotate(image: Sequence[Picture], recipe: str | Path | Recipe = ..., **options: Any) -> list[LabelledImage]: ...


@overload
def annotate(image: Picture, recipe: str | Path | Recipe = ..., **options: Any) -> LabelledImage: ...


def annotate(  # type: ignore[misc]
    image: Picture | Sequence[Picture],
    recipe: str | Path | Recipe = "lung",
    *,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    offline: bool = False,
    polarity: Polarity = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> LabelledImage | list[LabelledImage]:
    """Label chest X-rays that have no labels, as ``cxrsynth annotate`` does. Many at once cost the model's start once.

    Args:
        image: a file (an image or DICOM), a gray array (H, W) of uint8, uint16, or floats in 0..1, a PIL image, or a
            list of them.
        recipe: whose classes and mask chain are used; prompts and sampling do not matter.
        model: another model than the recipe's.
        settings: other values of the recipe, for example ``{"masks.refine": ["crf"]}``.
        out: dataset folder to write into; by default nothing is kept on disk.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        offline: open no connection.
        polarity: ``auto`` puts inverted and turned images right and refuses mirrored ones; ``keep``: as they are.
        progress: told (images done, images in all).

    Returns:
        The image at its own size, upright, gray levels stretched to the full range, and its mask; a list for a list.

    Raises:
        UsageError: an image cannot be read; the message says which and why.
        MissingError: weights are missing, or what reads DICOM.

    Example:
        >>> import cxrsynth
        >>> chest = cxrsynth.generate("phantom", n=1)[0]
        >>> label = cxrsynth.annotate(chest.image, settings={"attention.timesteps": [50]})
        >>> label.mask.shape, sorted(label.classes)
        ((256, 256), ['heart', 'left_lung', 'right_lung'])
    """
    from cxrsynth.factory.apply.annotate import Reading
    from cxrsynth.factory.apply.annotate import annotate as run
    from cxrsynth.factory.plan import find_weights

    several = isinstance(image, Sequence) and not isinstance(image, str)
    pictures: Sequence[Picture] = image if several else [image]  # type: ignore[list-item,assignment]
    if not pictures:
        return []
    loaded = load_recipe(recipe, {"model": model}, settings)
    found = find_weights(loaded.model, loaded.base, loaded.lora, offline)
    reading = Reading(timesteps=loaded.attention.timesteps)
    with TemporaryDirectory(prefix="cxrsynth-") as temporary, folder_for(out) as folder:
        names = [place(picture, Path(temporary), number) for number, picture in enumerate(pictures)]
        result = run(
            Path(temporary),
            folder,
            loaded,
            found,
            reading,
            device=device,
            workers=0,
            polarity=polarity,
            on_images=progress or (lambda done, planned: None),
        )
        for refused in result.refused:
            number = names.index(refused["key"])
            raise UsageError(
                f"image {number} ({told(pictures[number])}) cannot be labelled: {refused['reason']}",
                "give a gray chest X-ray of at least 32 pixels a side",
            )
        labelled = {one.key: one for one in Dataset(folder)}
        images = [labelled[name] for name in names]
    return images if several else images[0]


def place(picture: Picture, folder: Path, number: int) -> str:
    """Put one image into a folder under its number; returns its key there.

    Raises:
        UsageError: not an image, or no such file.
    """
    from PIL import Image

    key = f"{number:06d}"
    if isinstance(picture, str | Path):
        path = Path(picture).expanduser()
        if not path.is_file():
            raise UsageError(f"there is no file {path}", "name an image; for a folder: cxrsynth annotate FOLDER -o OUT")
        if is_dicom(path):
            (folder / f"{key}.png").write_bytes(png_of(path))
            return key
        shutil.copyfile(path, folder / f"{key}{path.suffix}")  # a link that leads out of the folder is refused
        return key
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(gray(picture))
    if not isinstance(picture, Image.Image):
        raise UsageError(f"{type(picture).__name__} is no image", "give a file, a numpy array, or a PIL image")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    (folder / f"{key}.png").write_bytes(buffer.getvalue())
    return key


def png_of(path: Path) -> bytes:
    """A DICOM file as a PNG of 16 bits, as it is meant to be seen; nothing else of the file is in it.

    Raises:
        UsageError: it cannot be read or used.
        MissingError: the extra ``dicom`` is not installed.
    """
    from PIL import Image

    try:
        array, _ = read_dicom(path)
    except DicomError as error:
        raise UsageError(f"{path} cannot be labelled: {error}", "give a frontal chest radiograph") from None
    low, high = float(array.min()), float(array.max())
    buffer = io.BytesIO()
    Image.fromarray(((array - low) * (65535 / max(high - low, 1e-6))).round().astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def gray(array: np.ndarray) -> np.ndarray:
    """(H, W) uint8 or uint16 as it is, floats in 0..1 as uint16.

    Raises:
        UsageError: another shape or type.
    """
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
        array = array.squeeze(0 if array.shape[0] == 1 else -1)
    if array.ndim == 2 and array.dtype in (np.uint8, np.uint16):
        return array
    if array.ndim == 2 and np.issubdtype(array.dtype, np.floating) and array.min() >= 0 and array.max() <= 1:
        scaled: np.ndarray = (array * 65535).round().astype(np.uint16)
        return scaled
    raise UsageError(
        f"an array {array.shape} of {array.dtype} is no gray image", "give (H, W) of uint8, uint16, or floats in 0..1"
    )


def told(picture: Picture) -> str:
    """An image in a few words."""
    return str(picture) if isinstance(picture, str | Path) else type(picture).__name__
