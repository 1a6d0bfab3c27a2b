"""Everything that is measured on drawn films, in one go: who judges them, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cxrsynth.device import resolve
from cxrsynth.evaluate import classification
from cxrsynth.evaluate.adherence import alignment, heart_size_by_labels, heart_size_by_segmenter
from cxrsynth.evaluate.anatomy import anatomy
from cxrsynth.evaluate.features import FeatureNet, autoencoder_net, classifier_net, inception_net, xrv_net
from cxrsynth.evaluate.images import Group, fidelity, group, same_people, variety
from cxrsynth.evaluate.memorisation import Privacy, check_privacy, memorisation
from cxrsynth.evaluate.results import Record
from cxrsynth.nets import classifier as classifiers
from cxrsynth.nets import segmenter as segmenters
from cxrsynth.nets.classifier import Classifier
from cxrsynth.nets.segmenter import Segmenter


@dataclass(slots=True)
class Judges:
    """Networks that look at films.

    Attributes:
        nets: that make features; the autoencoder is the first.
        classifier: trained on real films, or None.
        segmenter: trained on real films, or None.
        learned: patients that the classifier was trained on.
    """

    nets: list[FeatureNet]
    classifier: Classifier | None = None
    segmenter: Segmenter | None = None
    learned: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        model: Path,
        classifier: Path | None = None,
        segmenter: Path | None = None,
        xrv: Path | None = None,
        inception: Path | None = None,
        device: str = "auto",
    ) -> Judges:
        """Judges from their folders and files.

        Raises:
            MissingError: one of them is not there.
            MismatchError: one of them is something else.
        """
        judges = cls([])
        # Small files first: a wrong path is known before anything large is read.
        if xrv is not None:
            judges.nets.append(xrv_net(xrv))
        if inception is not None:
            judges.nets.append(inception_net(inception))
        if segmenter is not None:
            judges.segmenter = segmenters.load(segmenter, resolve(device))
        if classifier is not None:
            judges.classifier = classifiers.load(classifier, resolve(device))
            judges.learned = classification.patients_of(classifier)
            judges.nets.insert(0, classifier_net(judges.classifier))
        judges.nets.insert(0, autoencoder_net(model))
        return judges


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found on drawn films.

    Attributes:
        records: every figure.
        drawn: the films.
        train: the real films that the model may have seen.
        privacy: nearest training films.
    """

    records: list[Record]
    drawn: Group
    train: Group
    privacy: Privacy

    def kept(self) -> list[str]:
        """Keys of the films that are no copies."""
        return [row["key"] for row, bad in zip(self.drawn.rows, self.privacy.suspicious, strict=True) if not bad]


def measure(
    made: Path,
    real: Path,
    judges: Judges,
    split: str = "test",
    name: str = "",
    advance: Callable[[float, str], None] | None = None,
) -> Measured:
    """Fidelity, variety, copies, heart size, prompt alignment and anatomy of drawn films.

    Args:
        made: drawn films.
        real: real films with splits; ``train`` is what may have been copied, ``split`` the yardstick.
        name: of the arm in tables.
        advance: told (finished parts of 5, what comes next).

    Raises:
        UsageError: too few films, or pictures of different sizes.
        MismatchError: a judge was trained on the films of ``split``.
    """

    def say(done: float, what: str) -> None:
        if advance:
            advance(done, what)

    arm = name or made.name
    say(0, "fidelity")
    drawn = group(made, name=arm)
    keep = same_people(drawn.rows)
    held_out, train = group(real, split, keep), group(real, "train", keep)
    records = fidelity(drawn, held_out, train, judges.nets)
    say(1, "variety")
    records += variety(drawn, held_out)
    say(2, "copies")
    privacy = check_privacy(drawn, held_out, train, judges.nets[0])
    records += memorisation(privacy, drawn, train)
    say(3, "prompts")
    records += heart_size_by_labels(made, arm)
    if judges.classifier is not None:
        records += alignment(judges.classifier, made, arm, real, split, judges.learned)
    say(4, "anatomy")
    if judges.segmenter is not None:
        records += heart_size_by_segmenter(drawn, arm, judges.segmenter)
        records += heart_size_by_segmenter(held_out, "real", judges.segmenter, only_named=True)
        records += anatomy(judges.segmenter, drawn, held_out, train)
    say(5, "done")
    return Measured(records, drawn, train, privacy)
