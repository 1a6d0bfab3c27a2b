"""The one reader of masks: an image whose pixels are class ids, however it was saved."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cxrsynth.data.paths import trouble
from cxrsynth.records import IGNORE

Colour = tuple[int, int, int]


class MaskError(Exception):
    """A mask that cannot be used; the message is the reason, in words that follow the file's name."""


def read_mask(
    path: Path,
    ids: Collection[int] = (),
    *,
    shape: tuple[int, int] | None = None,
    colours: Mapping[Colour, int] | None = None,
    ignore: bool = False,
) -> tuple[np.ndarray, list[str]]:
    """Read one mask.

    Palette images give their indices, whatever colours these have. One bit is 0 and 1. Where there is one class, 0
    and 255 (or 0 and 1) are background and that class.

    Args:
        ids: the values that stand for a class; any value is accepted where none are given.
        shape: (H, W) it has to have.
        colours: colour -> id, for masks whose classes are colours; black is background.
        ignore: whether 255 means that nobody decided, as in the datasets this package writes.

    Returns:
        (H, W) uint8 ids, and notes on what was not plain.

    Raises:
        MaskError: missing, corrupt, of another size, in colours nobody explained, or with values no class has.
    """
    values, notes = _pixels(path, colours)
    if shape is not None and values.shape != shape:
        wanted, given = f"{shape[1]}x{shape[0]}", f"{values.shape[1]}x{values.shape[0]}"
        raise MaskError(f"mask has {given} pixels, its image {wanted}")
    found = set(np.unique(values).tolist())
    if len(set(ids)) == 1 and not ignore and (found - {0}) in ({255}, {1}) and not found - {0} <= set(ids):
        (only,) = set(ids)
        notes.append(f"{max(found)} taken as the only class")
        return np.where(values > 0, only, 0).astype(np.uint8), notes
    strange = sorted(found - {0} - set(ids) - ({IGNORE} if ignore else set())) if ids else []
    if strange or (found and not 0 <= min(found) <= max(found) <= 255):
        listed = ", ".join(f"{value:g}" for value in (strange or sorted(found - set(range(256))))[:5])
        why = "; 0 and 255 are read where classes.json has one class" if strange == [255] else ""
        raise MaskError(f"mask has values [{listed}] that no class stands for{why}")
    return values.astype(np.uint8), notes


def _pixels(path: Path, colours: Mapping[Colour, int] | None) -> tuple[np.ndarray, list[str]]:
    """(H, W) of whole numbers, of any size, before anybody asked what they mean."""
    why = trouble(path)
    if why:
        raise MaskError(f"mask: {why}")
    if path.stat().st_size == 0:
        raise MaskError("mask is an empty file")
    try:
        with warnings.catch_warnings():
            # An image that unpacks to a multiple of any radiograph is refused, not only warned of.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if getattr(image, "n_frames", 1) > 1:
                    raise MaskError("mask has several frames; expected one")
                mode = image.mode
                array = np.asarray(image.convert("RGB") if mode in ("RGBA", "CMYK", "YCbCr", "LAB", "HSV") else image)
    except MaskError:
        raise
    except UnidentifiedImageError:
        raise MaskError("mask is not an image") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise MaskError("mask has more pixels than any radiograph") from None
    except Exception as error:  # a decoder that is given garbage may raise anything
        raise MaskError(f"mask is corrupt: {error}") from None
    if mode in ("LA", "La", "PA"):
        return array[..., 0], ["transparency left out"]
    if array.ndim == 3:
        return _indices(array, colours)
    if array.dtype == bool:
        return array.astype(np.uint8), []
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.round(array)).all()):
        raise MaskError("mask holds fractions; expected class ids")
    return array.astype(np.int64) if array.dtype != np.uint8 else array, []


def _indices(array: np.ndarray, colours: Mapping[Colour, int] | None) -> tuple[np.ndarray, list[str]]:
    """(H, W, 3) uint8 -> (H, W) ids: by the table, or the one channel where all three are equal."""
    if (array == array[..., :1]).all() and not (colours and any(len(set(colour)) == 1 for colour in colours)):
        return array[..., 0], ["gray stored as colour"]
    packed = array.astype(np.int64) @ np.array([65536, 256, 1])  # (H, W), one number a colour
    known = {0: 0, **{red << 16 | green << 8 | blue: number for (red, green, blue), number in (colours or {}).items()}}
    strange = sorted(set(np.unique(packed).tolist()) - set(known))
    if strange:
        listed = ", ".join(f"#{value:06x}" for value in strange[:5])
        raise MaskError(f"mask is in colour, and no class in classes.json has the 'colour' {listed}")
    order = np.array(sorted(known))
    return np.array([known[value] for value in order])[np.searchsorted(order, packed)], []
