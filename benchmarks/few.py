"""Are all masks of a few-label comparison of the same patients: in the grounding, the mask head and the real arm?

    python -m benchmarks.few out/few/4 out/few/16 --real data/real

Each folder holds what `make benchmark-few` made for N patients: ``data`` (the only masks that grounding and mask head
could see) and ``mask_head.safetensors`` (which says what it was fitted on). N is the folder's name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cxrsynth.auxiliary_files import about
from cxrsynth.console import console
from cxrsynth.data.labelled import Source, gather, may_train
from cxrsynth.data.patients import patient_id
from cxrsynth.errors import CxrError, MismatchError
from cxrsynth.store import Store

CLASSES = ("right_lung", "left_lung", "heart")


def patients_with_masks(data: Path) -> dict[str, str]:
    """Key -> patient of the images that have a mask."""
    return {row["key"]: patient_id(row) for row in Store(data).rows() if row["mask"] is not None}


def check(folder: Path, real: Path) -> int:
    """The number of patients that all parts share.

    Raises:
        MismatchError: a part has seen other patients; both sides are named.
    """
    count = int(folder.name)
    held = patients_with_masks(folder / "data")
    patients = set(held.values())
    arm = gather(Source(real), "train", CLASSES, may_train(False))
    everybody = {image.patient for image in arm}
    arm = gather(Source(real, images=0 if count >= len(everybody) else count), "train", CLASSES, may_train(False))
    head = {held.get(key, key) for key in about(folder / "mask_head.safetensors", "head")["training"]["keys"]}
    for name, seen in (("the real arm", {image.patient for image in arm}), ("the mask head", head)):
        if seen != patients:
            strangers = sorted(seen ^ patients)
            raise MismatchError(
                f"{name} of {folder} and {folder / 'data'} differ in {', '.join(strangers[:4])}", f"remove {folder}"
            )
    return len(patients)


def main() -> None:
    """Check all folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--real", type=Path, required=True)
    options = parser.parse_args()
    for folder in options.folders:
        try:
            found = check(folder, options.real)
        except CxrError as error:
            sys.exit(f"error: {error.message}\n  try: {error.hint}")
        console.print(f"{folder}: grounding, mask head and real arm have seen the masks of the same {found} patients")


if __name__ == "__main__":
    main()
