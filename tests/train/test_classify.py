"""Training of a classifier: labels from rows and prompts, result, exact resume, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import choose_labels, gather_multilabel
from cxrsynth.domain.lexicon import knowledge, truth
from cxrsynth.encoding import dumps
from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.evaluate.classification import figures_of, mean_auroc, patients_of, predict, threshold
from cxrsynth.nets.classifier import ClassifierNetwork, load, start_encoder
from cxrsynth.records import Entry
from cxrsynth.store import Store
from cxrsynth.train.tasks.classify.config import ClassifyConfig, configure
from cxrsynth.train.tasks.classify.training import MaskedLoss, train_classifier, weights_of
from tests.train.test_segment import stop_after

ENCODER = "mobilenetv3_small_050"
LABELS = ("AP", "effusion")


def row(**changes: Any) -> dict[str, Any]:
    body = {"source": "a", "view": "PA", "population": "adult", "sex": "", "findings": "", "prompt": "Chest X-ray."}
    return {**body, **changes}


def make(root: Path, images: int = 24, source: str = "clinic", **changes: Any) -> Path:
    """Images whose lower right corner is white with an effusion, and whose upper edge is white in AP view."""
    store = Store(root)
    store.write("classes.json", dumps({"classes": [{"id": 1, "name": "lung", "phrase": "lung"}]}))
    rng = np.random.default_rng(0)
    entries = []
    for number in range(images):
        view, sick = ("PA", "AP")[number % 2], number % 4 < 2
        image = rng.integers(90, 130, size=(64, 64)).astype(np.uint8)
        image[:20] = 240 if view == "AP" else image[:20]
        image[32:, 32:] = 240 if sick else image[32:, 32:]
        line = row(
            key=f"{number:03d}", patient=f"p{number}", source=source, view=view, use="open",
            findings="effusion" if sick else "no finding", split=("train", "train", "val", "test")[number // 4 % 4],
            **changes,
        )  # fmt: skip
        entries.append(Entry(line, image))
    store.write_shard(0, entries, fingerprint="images", planned=[entry.row["key"] for entry in entries])
    return root


def config(**changes: Any) -> ClassifyConfig:
    body = {
        "encoder": ENCODER, "labels": LABELS, "size": 64, "batch": 4, "updates": 4, "warmup": 1, "look_every": 2,
        "patience": 0,
    }  # fmt: skip
    return ClassifyConfig.model_validate({**body, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "clinic")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    train_classifier([Source(data)], run, config(), device="cpu")
    return run


def said(line: dict[str, Any], *others: dict[str, Any], labels: tuple[str, ...] = LABELS, **how: Any) -> list[float]:
    return [float(x) for x in truth(line, labels, knowledge([line, *others], labels), **how)]


def test_a_finding_nobody_looked_for_is_unknown() -> None:
    assert np.isnan(said(row(findings="tuberculosis"))[1])


def test_a_finding_is_absent_where_its_source_names_it_elsewhere() -> None:
    assert said(row(findings="edema"), row(findings="effusion, edema"))[1] == 0.0
    assert np.isnan(said(row(findings="edema"), row(findings="effusion", source="b"))[1])


def test_a_normal_image_is_free_of_everything_unless_only_its_own_source_counts() -> None:
    assert said(row(findings="no finding"))[1] == 0.0
    assert np.isnan(said(row(findings="no finding"), negatives="source")[1])


def test_an_image_nobody_read_says_nothing() -> None:
    assert np.isnan(said(row(findings=""), row(findings="effusion"))[1])


def test_a_normal_heart_says_nothing_about_the_lungs() -> None:
    values = said(row(findings="normal heart size"), labels=("cardiomegaly", "pneumonia"))
    assert values[0] == 0.0
    assert np.isnan(values[1])


def test_a_prompt_says_what_was_asked_for() -> None:
    labels = ("AP", "child", "woman", "effusion", "cardiomegaly")
    sick = {"prompt": "Chest X-ray, AP view, of a 6-year-old girl. Findings: left pleural effusion."}
    well = {"prompt": "Chest X-ray, PA view, of a 50-year-old man. Findings: no effusion, cardiomegaly."}
    assert said(sick, well, labels=labels) == [1, 1, 1, 1, 0]
    assert said(well, sick, labels=labels) == [0, 0, 0, 0, 1]


def test_covid_is_not_pneumonia_by_another_name() -> None:
    labels = ("covid", "pneumonia")
    lines = [{"prompt": f"Chest X-ray. Findings: {what}."} for what in ("COVID-19 pneumonia", "viral pneumonia")]
    assert said(*lines, labels=labels) == [1, 0]
    assert said(*reversed(lines), labels=labels) == [0, 1]


def test_a_prompt_without_findings_says_nothing_about_them() -> None:
    sick = {"prompt": "AP chest X-ray with effusion"}
    assert np.isnan(said({"prompt": "AP chest X-ray"}, sick)[1])


def test_nothing_is_learned_where_nothing_is_known() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    target = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    MaskedLoss(torch.ones(2))(logits, target).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert (logits.grad != 0).sum() == 3


def test_rare_images_count_as_much_as_common_ones_within_bounds(data: Path) -> None:
    images = gather_multilabel(Source(data), "train", LABELS, "normal")
    assert torch.allclose(weights_of(images, 10.0), torch.ones(2))
    few = [image for image in images if image.truth[1] == 0 or image.row["key"] == "000"]
    assert weights_of(few, 10.0)[1] == sum(image.truth[1] == 0 for image in few)
    assert weights_of(few, 2.0)[1] == 2.0


def test_a_few_seconds_are_enough_to_see_what_is_plain(data: Path, tmp_path: Path) -> None:
    train_classifier([Source(data)], tmp_path, config(updates=30, batch=8, lr=3e-3, augment={"p": 0}), device="cpu")
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    assert metrics["test"]["labels"]["AP"]["auroc"] == 1.0
    assert metrics["test"]["labels"]["effusion"]["positive"] == 2


def test_the_result_is_a_folder_with_weights_config_and_metrics(trained: Path) -> None:
    names = {path.name for path in (trained / "model").iterdir()}
    assert names == {"model.safetensors", "config.json", "metrics.json", "patients.json", "curves.png"}
    body = json.loads((trained / "model/config.json").read_text())["_cxrsynth"]
    assert set(body["thresholds"]) == set(LABELS)
    assert body["data"][0]["with"] == {"AP": 8, "effusion": 8}


def test_a_killed_training_resumes_to_the_same_weights(data: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_classifier([Source(data)], tmp_path, config(), device="cpu", on_step=stop_after(3))
    train_classifier([Source(data)], tmp_path, config(), device="cpu")
    ours, theirs = (load_file(run / "model/model.safetensors") for run in (tmp_path, trained))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert (tmp_path / "classify_log.jsonl").read_text() == (trained / "classify_log.jsonl").read_text()


def test_resuming_with_other_labels_is_refused(data: Path, trained: Path) -> None:
    with pytest.raises(MismatchError, match="another recipe"):
        train_classifier([Source(data)], trained, config(labels=("AP",)), device="cpu")


def test_fine_tuning_matches_outputs_by_label(data: Path, trained: Path, tmp_path: Path) -> None:
    small = config(updates=1, lr=1e-12, ema=0.0, labels=("effusion",))
    train_classifier([Source(data)], tmp_path, small, init=trained, device="cpu")
    ours, theirs = (load_file(run / "model/model.safetensors") for run in (tmp_path, trained))
    assert torch.allclose(ours["classifier.weight"], theirs["classifier.weight"][1:], atol=1e-6)


def test_encoder_weights_keep_the_fresh_head(tmp_path: Path) -> None:
    network = ClassifierNetwork(ENCODER, 2)
    before = network.body.classifier.weight.clone()
    state = {
        name: value.clone() + 1 for name, value in network.body.state_dict().items() if value.dtype.is_floating_point
    }
    state["conv_stem.weight"] = state["conv_stem.weight"].expand(-1, 3, -1, -1).contiguous()
    save_file(state, tmp_path / "w.safetensors")
    start_encoder(network, tmp_path / "w.safetensors")
    assert torch.equal(network.body.classifier.weight, before)
    assert torch.allclose(network.body.state_dict()["conv_stem.weight"], 3 * state["conv_stem.weight"][:, :1])


def test_what_the_last_layer_sees_is_what_it_reads(trained: Path) -> None:
    classifier = load(trained, torch.device("cpu"))
    images = [np.random.default_rng(i).integers(256, size=(80, 64)).astype(np.uint8) for i in range(3)]
    seen = classifier.features(images)
    last = classifier.network.body.classifier
    with torch.inference_mode():
        again = last(torch.from_numpy(seen)).sigmoid().numpy()
    assert np.allclose(again, classifier(images), atol=0.02)  # bfloat16 against float32


def test_held_out_images_are_judged_and_known_patients_refused(data: Path, trained: Path, tmp_path: Path) -> None:
    classifier = load(trained, torch.device("cpu"))
    predicted = predict(classifier, data, "test", ["effusion"], learned=patients_of(trained))
    assert predicted.scores.shape == (4, 1)
    assert {item["metric"] for item in predicted.records("a", "b")} == {"auroc", "auroc_within"}
    leak = make(tmp_path / "leak", images=4)
    for path in leak.glob("meta/*.jsonl"):
        text = path.read_text().replace('"train"', '"test"')
        path.write_text(text)
        receipt = json.loads((leak / "shards/00000.json").read_text())
        receipt["files"]["meta/00000.jsonl"]["size"] = len(text)
        (leak / "shards/00000.json").write_text(json.dumps(receipt))
    with pytest.raises(MismatchError, match="clinic/p0 was in the training"):
        predict(classifier, leak, "test", learned=patients_of(trained))


def test_labels_with_enough_images_are_chosen(data: Path) -> None:
    assert choose_labels([Source(data)], (), "normal", 8) == ("AP", "effusion")
    with pytest.raises(UsageError, match="no label has 9"):
        choose_labels([Source(data)], (), "normal", 9)


def test_a_label_that_no_image_has_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'hernia': 0 images"):
        train_classifier([Source(data)], tmp_path, config(labels=("AP", "hernia")), device="cpu")


def test_a_patient_in_training_and_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="clinic/p is in two splits"):
        train_classifier([Source(make_same(tmp_path))], tmp_path / "run", config(), device="cpu")


def make_same(folder: Path) -> Path:
    store_root = make(folder / "same")
    path = store_root / "meta/00000.jsonl"
    lines = [json.dumps({**json.loads(line), "patient": "p"}) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    receipt = json.loads((store_root / "shards/00000.json").read_text())
    receipt["files"]["meta/00000.jsonl"]["size"] = path.stat().st_size
    (store_root / "shards/00000.json").write_text(json.dumps(receipt))
    return store_root


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(UsageError):
        ClassifierNetwork("resnet19", 2)


def test_a_typo_in_a_setting_names_the_right_ones() -> None:
    with pytest.raises(UsageError, match=r"augment\.rotat"):
        configure({}, {"augment.rotat": 3})


def test_the_threshold_lies_between_what_it_divides() -> None:
    scores, labels = np.array([0.1, 0.2, 0.6, 0.9, 0.5]), np.array([0, 0, 1, 1, np.nan])
    assert 0.2 < threshold(scores, labels) < 0.6


def test_telling_sources_apart_is_no_finding_within_a_source() -> None:
    rng = np.random.default_rng(0)
    sources = np.repeat(["a", "b"], 200)
    labels = np.concatenate([rng.random(200) < 0.9, rng.random(200) < 0.1]).astype(float)
    scores = (sources == "a") + 0.1 * rng.random(400)
    patients = [str(i) for i in range(400)]
    found = figures_of(("x",), labels[:, None], scores[:, None], patients, list(sources))["x"]
    assert found["auroc"] > 0.85
    assert found["within_lo"] < 0.5 < found["within_hi"]


def test_a_label_of_one_kind_does_not_count() -> None:
    truth_table = np.array([[1.0, 1.0], [0.0, 1.0]])
    assert mean_auroc(truth_table, np.array([[0.9, 0.1], [0.1, 0.2]])) == 1.0
