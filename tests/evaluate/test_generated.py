"""What is measured on synthetic images, on images whose answer is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from cxrsynth.encoding import dumps
from cxrsynth.errors import MismatchError, MissingError, UsageError
from cxrsynth.evaluate.adherence import alignment, heart_size_by_segmenter
from cxrsynth.evaluate.features import autoencoder_net, classifier_net, inception_net, xrv_net
from cxrsynth.evaluate.generated import Evaluators, Measured, measure
from cxrsynth.evaluate.images import group, same_people
from cxrsynth.evaluate.images_report import page
from cxrsynth.nets.classifier import Classifier, ClassifierNetwork
from cxrsynth.records import Entry
from cxrsynth.store import Store
from tests.labeller import by_tone
from tests.train.chests import CLASSES, chest, make

PROMPT = "Frontal chest X-ray, {view} view. Findings: {heart}."
COPY, BLANK = 3, 5  # among the synthetic images: a training image, and a picture without a chest


def draw(root: Path, count: int = 16) -> Path:
    """Drawn chests; with "cardiomegaly" the heart is twice as wide."""
    store = Store(root)
    store.write("classes.json", dumps({"classes": [{"id": i, "name": n, "phrase": n} for n, i in CLASSES.items()]}))
    entries = []
    for number in range(count):
        image, mask = chest(number if number == COPY else 500 + number)
        large = number % 2 == 0
        if large:
            image[32:53, 18:50], mask[32:53, 18:50] = 230, 3
        if number == BLANK:
            image, mask = np.full_like(image, 120), np.zeros_like(mask)
        prompt = PROMPT.format(view=("AP", "PA")[number // 2 % 2], heart=("normal heart size", "cardiomegaly")[large])
        entries.append(Entry({"key": f"{number:09d}", "prompt": prompt, "split": "train"}, image, mask))
    store.write_shard(0, entries, fingerprint="generated", planned=[entry.row["key"] for entry in entries])
    return root


class ByUpperEdge(Classifier):
    """Says AP for everything, and knows nothing else: random features, one answer."""

    def __call__(self, images: list[np.ndarray], batch: int = 16) -> np.ndarray:  # type: ignore[override]
        return np.full((len(images), 1), 0.9, np.float32)


@pytest.fixture(scope="module")
def evaluators(tiny: Path) -> Evaluators:
    torch.manual_seed(0)
    body = {"encoder": "mobilenetv3_small_050", "sha256": "f" * 64, "data": [{"name": "x"}], "thresholds": {"AP": 0.5}}
    network = ClassifierNetwork("mobilenetv3_small_050", 1).eval()
    classifier = ByUpperEdge(network, ("AP",), 64, torch.device("cpu"), body)
    return Evaluators([autoencoder_net(tiny), classifier_net(classifier)], classifier, by_tone())


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    views = {i: {"view": ("AP", "PA")[i % 2]} for i in range(40)}
    return make(tmp_path_factory.mktemp("data") / "real", splits="t" * 24 + "s" * 16, rows=views, per_shard=20)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "generated")


@pytest.fixture(scope="module")
def found(generated: Path, real: Path, evaluators: Evaluators) -> Measured:
    return measure(generated, real, evaluators)


def one(found: Measured, **wanted: str) -> dict[str, float]:
    (picked,) = [item for item in found.records if all(item[name] == value for name, value in wanted.items())]
    return picked


def test_every_net_gives_every_distance_next_to_real_against_real(found: Measured) -> None:
    metrics = {"fid", "kid", "precision", "recall", "density", "coverage"}
    for net in ("autoencoder_features", "classifier_features"):
        for arm in ("generated", "real"):
            items = [item for item in found.records if item["class"] == net and item["arm"] == arm]
            assert {item["metric"] for item in items} == metrics
            assert all(item["lo"] <= item["value"] <= item["hi"] for item in items)


def test_synthetic_images_are_farther_from_real_ones_than_real_ones_are(found: Measured) -> None:
    distances = [
        one(found, metric="fid", arm=arm, **{"class": "autoencoder_features"}) for arm in ("generated", "real")
    ]
    assert distances[0]["value"] > distances[1]["value"]


def test_a_copied_training_image_is_suspicious_and_left_out_of_the_keep_list(found: Measured) -> None:
    assert found.privacy.suspicious[COPY]
    assert found.generated.rows[COPY]["key"] not in found.kept()
    assert found.train.rows[found.privacy.generated.by_likeness[COPY]]["key"] == f"{COPY:03d}"
    assert one(found, metric="highest_train_correlation", arm="generated")["value"] == pytest.approx(1, abs=1e-4)


def test_most_images_that_are_no_copies_are_kept(found: Measured) -> None:
    assert len(found.kept()) >= 12


def test_a_picture_without_a_chest_is_out_of_every_range(found: Measured) -> None:
    shares = [one(found, metric="in_range", arm="generated", **{"class": kind}) for kind in ("area", "position", "all")]
    assert all(share["value"] < 1 for share in shares)
    assert one(found, metric="in_range", arm="real", **{"class": "area"})["value"] > 0.5


def test_the_word_cardiomegaly_is_judged_by_the_segmenter(found: Measured) -> None:
    assert one(found, metric="auroc", arm="generated", **{"class": "heart_size_by_segmenter"})["value"] == 1.0
    ratios = [
        one(found, metric="ctr", arm="generated", **{"class": f"{label}_by_segmenter"})["value"]
        for label in ("cardiomegaly", "normal_heart_size")
    ]
    assert ratios[0] > 1.3 * ratios[1]


def test_a_judge_that_says_ap_to_all_shows_no_alignment(found: Measured) -> None:
    for arm in ("generated", "real"):
        assert one(found, metric="auroc", arm=arm, **{"class": "AP"})["value"] == 0.5
        assert one(found, metric="agreement", arm=arm, **{"class": "AP"})["value"] == 0.5


def test_prompts_that_ask_for_nothing_the_classifier_knows_give_no_alignment(
    generated: Path, real: Path, evaluators: Evaluators
) -> None:
    assert evaluators.classifier is not None
    other = replace(evaluators.classifier, labels=("hernia",))
    assert alignment(other, generated, "generated", real) == []


def test_pairs_of_one_prompt_are_compared(found: Measured) -> None:
    same = one(found, metric="ms_ssim", **{"class": "same_prompt"})
    assert same["n"] == 12  # four prompts of four images each


def test_the_page_shows_neighbours_marks_copies_and_needs_no_other_file(
    found: Measured, evaluators: Evaluators
) -> None:
    text = page("generated", found.records, evaluators.nets, found.generated, found.train, found.privacy)
    assert "figure class=bad" in text
    assert f"{COPY:09d} | {COPY:03d}" in text
    assert evaluators.nets[1].what.split(" (")[0] in text
    assert 'src="http' not in text


def test_too_few_images_are_refused(tmp_path: Path, real: Path, evaluators: Evaluators) -> None:
    with pytest.raises(UsageError, match="has 4 images"):
        measure(draw(tmp_path / "few", 4), real, evaluators)


def test_children_are_compared_only_where_children_were_asked_for() -> None:
    child, adult = {"population": "pediatric"}, {"population": "adult"}
    grown = same_people([{"prompt": "chest X-ray of a 40-year-old man"}])
    assert grown(adult)
    assert not grown(child)
    assert same_people([{"prompt": "chest X-ray of a young child"}])(child)


def test_an_external_test_set_is_no_yardstick(tmp_path: Path) -> None:
    root = make(tmp_path / "external", rows={i: {"use": "test"} for i in range(8)})
    with pytest.raises(UsageError):
        group(root, "test")


def test_heart_sizes_need_lungs_and_heart(real: Path) -> None:
    assert heart_size_by_segmenter(group(real), "x", by_tone(("right_lung", "left_lung"))) == []


def test_features_of_brought_weights_come_from_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.densenet121(weights=None, num_classes=18)
    network.features.conv0 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.eval()
    save_file(network.state_dict(), tmp_path / "xrv.safetensors")
    image = np.random.default_rng(0).integers(256, size=(1, 224, 224)).astype(np.uint8)
    seen = xrv_net(tmp_path / "xrv.safetensors").see(image)
    with torch.inference_mode():
        x = torch.from_numpy(image[:, None].astype(np.float32)) / 255 * 2048 - 1024
        last = network.classifier(torch.from_numpy(seen))
        assert torch.allclose(last, network(x), rtol=1e-3, atol=1e-3)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(MismatchError, match="Inception v3"):
        inception_net(tmp_path / "other.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    with pytest.raises(MismatchError, match="no plain weights"):
        xrv_net(tmp_path / "broken.pt")
    with pytest.raises(MissingError):
        xrv_net(tmp_path / "absent.pt")
