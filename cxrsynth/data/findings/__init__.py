"""The simulator of findings: findings of known shape put into real images, with exact masks and true words.

Example:

    rng = np.random.default_rng(7)
    made = simulate(image, labels, rng, kinds=["effusion", "nodule"])
    made.image             # (H, W) uint8
    made.masks["effusion"] # (H, W) bool
    made.words             # "moderate left pleural effusion, small nodule in the right upper zone"

``image`` is (H, W) uint8, ``labels`` the anatomy of the same size with the ids of
`cxrsynth.domain.anatomy.CLASSES` (1 right lung, 2 left lung, 3 heart).
Without ``kinds`` a combination is chosen that the anatomy can carry, or no finding.

The method follows Litjens et al., MICCAI 2010, who put projected CT lesions into radiographs; here the lesions are made
of simple shapes and noise, and enter by the attenuation of the beam.
"""

from __future__ import annotations

from cxrsynth.data.findings.finding import CannotCarryError, Finding, Put
from cxrsynth.data.findings.place import kind_of, place
from cxrsynth.data.findings.simulate import FINDINGS, KIND_OF, NO_FINDING, PHRASES, Simulated, simulate

__all__ = [
    "FINDINGS",
    "KIND_OF",
    "NO_FINDING",
    "PHRASES",
    "CannotCarryError",
    "Finding",
    "Put",
    "Simulated",
    "kind_of",
    "place",
    "simulate",
]
