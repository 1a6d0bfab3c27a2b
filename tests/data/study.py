"""A folder as an archive gives it: every transfer syntax, every depth, every way to store an image wrongly."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from tests.data import dicoms

SYNTAXES = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
)
BITS = (8, 10, 12, 14, 16)
# Name of the file -> why it is set aside.
ASIDE = {"lateral": "lateral view (ViewPosition)", "frames": "multi-frame: 2 frames, one image is read"}


def make(root: Path, picture: np.ndarray) -> dict[str, Dataset]:
    """Write the folder; ``picture`` is (H, W) uint8, upright.

    Returns:
        Name of a file -> what was written. Names of files that lie otherwise end with ``turned``.
    """
    made = {}

    def write(name: str, pixels: np.ndarray, bits: int, **more: Any) -> None:
        made[name] = dicoms.make(root / name, pixels, bits=bits, number=len(made), **more)

    for number, syntax in enumerate(SYNTAXES):
        bits = 8 if syntax == uid.JPEGBaseline8Bit else BITS[number % len(BITS)]
        write(f"IM{number:04d}", deep(picture, bits), bits, syntax=syntax)
    tall = deep(picture, 12)
    most = 4095 - tall
    write("monochrome1.dcm", most, 12, PhotometricInterpretation="MONOCHROME1")
    write("inverted.dcm", most, 12)  # and does not say so
    write("window.dcm", tall, 12, WindowCenter=2048, WindowWidth=4096, kind=dicoms.CR)
    write("rescale.dcm", tall, 12, RescaleSlope=2, RescaleIntercept=-1024, kind=dicoms.SC)
    write("lut.dcm", deep(picture, 8), 8, VOILUTSequence=[table()])
    write("mirror_turned", np.ascontiguousarray(tall[:, ::-1]), 12, PatientOrientation=["R", "F"])
    write("side_turned", np.ascontiguousarray(tall.T), 12, PatientOrientation=["F", "L"])
    write("lateral", tall, 12, ViewPosition="LL")
    write("frames", np.stack([tall, tall]), 12)
    return made


def deep(picture: np.ndarray, bits: int) -> np.ndarray:
    """A picture of 8 bits with more of them."""
    return picture.astype(np.uint16) << (bits - 8) if bits > 8 else picture


def table() -> Dataset:
    """A VOI LUT that changes every tone and the order of none."""
    item = Dataset()
    item.LUTDescriptor = [256, 0, 16]
    item.add_new("LUTData", "OW", (np.arange(256, dtype=np.uint16) * 200).tobytes())
    return item
