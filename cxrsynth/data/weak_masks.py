"""A mask out of boxes: what a box says for certain, and nothing else.

A box says that its finding reaches every side of it and nowhere beyond; most of what lies in it may be healthy. So its
middle is the finding, the rest of it is unknown, and the image outside all boxes is without. BoxSup (Dai et al., ICCV
2015) and Simple Does It (Khoreva et al., CVPR 2017) begin in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cxrsynth.data.boxes import Box, fill
from cxrsynth.records import IGNORE

MIDDLE = 0.5  # of a box's width and height: the axes of the ellipse that is taken for the finding


def weak_mask(boxes: Sequence[Box], shape: tuple[int, int], number: int) -> np.ndarray:
    """(H, W) uint8: ``number`` in the middle of each box, 255 (not learned from) in the rest of it, 0 outside all.

    Args:
        boxes: of one finding.
        shape: (H, W) of the image.
        number: id of the finding.
    """
    mask = np.where(fill(boxes, shape), IGNORE, 0).astype(np.uint8)
    rows = ((np.arange(shape[0]) + 0.5) / shape[0])[:, None]
    columns = ((np.arange(shape[1]) + 0.5) / shape[1])[None]
    for box in boxes:
        down = (rows - (box.top + box.bottom) / 2) / (box.bottom - box.top)
        across = (columns - (box.left + box.right) / 2) / (box.right - box.left)
        mask[np.hypot(down, across) <= MIDDLE / 2] = number
    return mask
