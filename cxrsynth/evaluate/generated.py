"""Everything that is measured on synthetic images, in one go: by which networks, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cxrsynth.device import resolve
from cxrsynth.errors import MissingError
from cxrsynth.evaluate import classification
from cxrsynth.evaluate.adherence import alignment, heart_size_by_labels, heart_size_by_segmenter
from cxrsynth.evaluate.anatomy import anatomy
from cxrsynth.evaluate.features import FeatureNet, autoencoder_net, classifier_net, imagenet_net, inception_net, xrv_net
from cxrsynth.evaluate.images import Group, fidelity, group, same_people, sharpness, variety
from cxrsynth.evaluate.memorisation import Privacy, check_privacy, memorisation
from cxrsynth.evaluate.results import Record
from cxrsynth.nets import classifier as classifiers
from cxrsynth.nets import segmenter as segmenters
from cxrsynth.nets.classifier import Classifier
from cxrsynth.nets.segmenter import Segmenter


@dataclass(slots=True)
class Evaluators:
    """Networks that look at images.

    Attributes:
        nets: that make features; the autoencoder is the first, the ImageNet net the second where it is installed.
        classifier: trained on real images, or None.
        segmenter: trained on real images, or None.
        learned: patients that the classifier was trained on.
        absent: what to say of a net that is not installed; empty where nothing is missing.
    """

    nets: list[FeatureNet]
    classifier: Classifier | None = None
    segmenter: Segmenter | None = None
    learned: dict[str, list[str]] = field(default_factory=dict)
    absent: str = ""

    @classmethod
    def load(
        cls,
        model: Path,
        classifier: Path | None = None,
        segmenter: Path | None = None,
        xrv: Path | None = None,
        inception: Path | None = None,
        device: str = "auto",
    ) -> Evaluators:
        """Evaluators from their folders and files.

        Raises:
            MissingError: one of them is not there.
            MismatchError: one of them is something else.
        """
        evaluators, where = cls([]), resolve(device)
        # Small files first: a wrong path is known before anything large is read.
        if xrv is not None:
            evaluators.nets.append(xrv_net(xrv, where))
        if inception is not None:
            evaluators.nets.append(inception_net(inception, where))
        if segmenter is not None:
            evaluators.segmenter = segmenters.load(segmenter, where)
        if classifier is not None:
            evaluators.classifier = classifiers.load(classifier, where)
            evaluators.learned = classification.patients_of(classifier)
            evaluators.nets.insert(0, classifier_net(evaluators.classifier))
        try:
            evaluators.nets.insert(0, imagenet_net(device=where))
        except MissingError as error:
            evaluators.absent = f"without figures in ImageNet features: {error}; {error.hint}"
        evaluators.nets.insert(0, autoencoder_net(model, where))
        return evaluators


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found on synthetic images.

    Attributes:
        records: every figure.
        generated: the images.
        train: the real images that the model may have seen.
        privacy: nearest training images.
    """

    records: list[Record]
    generated: Group
    train: Group
    privacy: Privacy

    def kept(self) -> list[str]:
        """Keys of the images that are no copies."""
        return [row["key"] for row, bad in zip(self.generated.rows, self.privacy.suspicious, strict=True) if not bad]


def measure(
    made: Path,
    real: Path,
    evaluators: Evaluators,
    split: str = "test",
    name: str = "",
    advance: Callable[[float, str], None] | None = None,
) -> Measured:
    """Fidelity, variety, copies, heart size, prompt alignment and anatomy of synthetic images.

    Args:
        made: synthetic images.
        real: real images with splits; ``train`` is what may have been copied, ``split`` the yardstick.
        name: of the arm in tables.
        advance: told (finished parts of 5, what comes next).

    Raises:
        UsageError: too few images, or images of different sizes.
        MismatchError: an evaluator was trained on the images of ``split``.
    """

    def say(done: float, what: str) -> None:
        if advance:
            advance(done, what)

    arm = name or made.name
    say(0, "fidelity")
    generated = group(made, name=arm)
    keep = same_people(generated.rows)
    held_out, train = group(real, split, keep), group(real, "train", keep)
    records = fidelity(generated, held_out, train, evaluators.nets)
    say(1, "variety")
    records += variety(generated, held_out) + sharpness(generated, held_out, train)
    say(2, "copies")
    privacy = check_privacy(generated, held_out, train, evaluators.nets[0])
    records += memorisation(privacy, generated, train)
    say(3, "prompts")
    records += heart_size_by_labels(made, arm)
    if evaluators.classifier is not None:
        records += alignment(evaluators.classifier, made, arm, real, split, evaluators.learned)
    say(4, "anatomy")
    if evaluators.segmenter is not None:
        records += heart_size_by_segmenter(generated, arm, evaluators.segmenter)
        records += heart_size_by_segmenter(held_out, "real", evaluators.segmenter, only_named=True)
        records += anatomy(evaluators.segmenter, generated, held_out, train)
    say(5, "done")
    return Measured(records, generated, train, privacy)
