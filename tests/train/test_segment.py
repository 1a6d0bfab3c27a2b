"""Training of a segmentation network: result, exact resume, mixing, fine-tuning."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cxrsynth.data.augment import augmenter
from cxrsynth.data.config import SegmentAugment
from cxrsynth.data.labelled import LabelledImage, Source, gather
from cxrsynth.data.patients import Mixture
from cxrsynth.errors import MismatchError, MissingError, UsageError
from cxrsynth.nets.encoder_weights import load_encoder
from cxrsynth.nets.losses import SegmentationLoss
from cxrsynth.nets.segmenter import Network, load
from cxrsynth.train.loop import NotFiniteError
from cxrsynth.train.tasks.segment.config import SegmentConfig, configure
from cxrsynth.train.tasks.segment.training import train_segmenter
from tests.train.chests import chest, make

ENCODER = "tu-mobilenetv3_small_050"
OPTIONS = {"decoder_channels": [16, 8, 8, 8, 8]}


def config(**changes: Any) -> SegmentConfig:
    body = {
        "encoder": ENCODER, "options": OPTIONS, "size": 64, "batch": 2, "updates": 4, "warmup": 1,
        "look_every": 2, "patience": 0,
    }  # fmt: skip
    return SegmentConfig.model_validate({**body, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "clinic")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    train_segmenter([Source(data)], run, config(), device="cpu")
    return run


def stop_after(update: int) -> Callable[[int, int, dict[str, float]], None]:
    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        if done == update:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_step


def test_the_result_is_a_folder_with_weights_config_and_metrics(trained: Path) -> None:
    names = {path.name for path in (trained / "model").iterdir()}
    assert names == {"model.safetensors", "config.json", "metrics.json", "patients.json", "curves.png", "worst.png"}
    metrics = json.loads((trained / "model/metrics.json").read_text())
    assert set(metrics["validation"]["dice"]) == {"right_lung", "left_lung", "heart"}
    assert metrics["validation"]["images"] == 2


def test_a_few_seconds_are_enough_to_find_the_lungs(data: Path, tmp_path: Path) -> None:
    longer = config(updates=40, batch=4, lr=3e-3, warmup=5, options={"decoder_channels": [32, 16, 16, 8, 8]})
    train_segmenter([Source(data)], tmp_path, longer, device="cpu")
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    assert metrics["validation"]["dice"]["right_lung"] > 0.85
    assert metrics["validation"]["dice"]["left_lung"] > 0.85


def test_a_killed_training_resumes_to_the_same_weights(data: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_segmenter([Source(data)], tmp_path, config(), device="cpu", on_step=stop_after(3))
    assert not (tmp_path / "model").exists()
    train_segmenter([Source(data)], tmp_path, config(), device="cpu")
    ours, theirs = (load_file(run / "model/model.safetensors") for run in (tmp_path, trained))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert (tmp_path / "segment_log.jsonl").read_text() == (trained / "segment_log.jsonl").read_text()


def test_processes_that_read_ahead_change_nothing(data: Path, trained: Path, tmp_path: Path) -> None:
    train_segmenter([Source(data)], tmp_path, config(workers=1), device="cpu")
    assert (tmp_path / "segment_log.jsonl").read_text() == (trained / "segment_log.jsonl").read_text()


def test_resuming_with_another_learning_rate_is_refused(data: Path, trained: Path) -> None:
    with pytest.raises(MismatchError, match="another recipe"):
        train_segmenter([Source(data)], trained, config(lr=1e-5), device="cpu")


def test_training_stops_when_validation_gains_nothing(data: Path, tmp_path: Path) -> None:
    train_segmenter([Source(data)], tmp_path, config(updates=50, lr=1e-12, patience=1, ema=0.0), device="cpu")
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    assert metrics["stopped_early"]
    assert metrics["updates"] < 50


def test_datasets_are_mixed_by_their_weights(data: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", source="generated")
    images = [gather(Source(root), "train", ["heart"]) for root in (data, other)]
    draw = Mixture(images, [3.0, 1.0])
    drawn = [image.row["source"] for image in draw(np.random.default_rng(0), 200)]
    assert drawn.count("clinic") == pytest.approx(150, abs=25)


def test_fewer_patients_are_a_subset_of_more(data: Path) -> None:
    few, more = ({image.row["key"] for image in gather(Source(data, images=n), "train", ["heart"])} for n in (2, 4))
    assert len(few) == 2
    assert few < more


def test_fine_tuning_starts_from_the_trained_weights(data: Path, trained: Path, tmp_path: Path) -> None:
    train_segmenter([Source(data)], tmp_path, config(updates=1, lr=1e-12, ema=0.0), init=trained, device="cpu")
    ours, theirs = (load_file(run / "model/model.safetensors") for run in (tmp_path, trained))
    name = "segmentation_head.0.weight"
    assert torch.allclose(ours[name], theirs[name], atol=1e-6)


def test_fine_tuning_matches_channels_by_class_name(data: Path, trained: Path, tmp_path: Path) -> None:
    fewer = config(updates=1, lr=1e-12, ema=0.0, classes=("heart",))
    train_segmenter([Source(data)], tmp_path, fewer, init=trained, device="cpu")
    ours, theirs = (load_file(run / "model/model.safetensors") for run in (tmp_path, trained))
    name = "segmentation_head.0.weight"
    assert torch.allclose(ours[name], theirs[name][[0, 3]], atol=1e-6)


def test_fine_tuning_another_architecture_is_refused(data: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="fpn"):
        train_segmenter([Source(data)], tmp_path, config(arch="fpn", options={}), init=trained, device="cpu")


def test_encoder_weights_come_from_a_file_with_three_channels(tmp_path: Path) -> None:
    network = Network("unet", ENCODER, 3, OPTIONS)
    state = {
        name.removeprefix("model."): value.clone() + 1 for name, value in network.body.encoder.state_dict().items()
    }
    stem = state["conv_stem.weight"]
    save_file({**state, "conv_stem.weight": stem.expand(-1, 3, -1, -1).contiguous()}, tmp_path / "w.safetensors")
    load_encoder(network, tmp_path / "w.safetensors")
    assert torch.allclose(network.body.encoder.state_dict()["model.conv_stem.weight"], 3 * stem)


def test_encoder_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(MismatchError, match="lacks"):
        load_encoder(Network("unet", ENCODER, 3, OPTIONS), tmp_path / "w.safetensors")


def test_changed_weights_are_refused(data: Path, tmp_path: Path) -> None:
    train_segmenter([Source(data)], tmp_path, config(updates=1), device="cpu")
    path = tmp_path / "model/model.safetensors"
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(bytes(body))
    with pytest.raises(MismatchError, match="changed"):
        load(tmp_path, torch.device("cpu"))


def test_a_folder_without_a_network_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as error:
        load(tmp_path, torch.device("cpu"))
    assert "train-seg" in error.value.hint


@pytest.mark.parametrize(("arch", "encoder"), [("unnet", ENCODER), ("unet", "resnet35"), ("unet", "tu-nothing")])
def test_an_unknown_network_is_refused(arch: str, encoder: str) -> None:
    with pytest.raises(UsageError):
        Network(arch, encoder, 3)


def test_a_typo_in_a_setting_names_the_right_ones() -> None:
    with pytest.raises(UsageError) as error:
        configure({}, {"augment.rotat": 3})
    assert "augment.rotat" in error.value.message


def test_a_loss_that_is_no_number_stops_the_training(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError) as error:
        train_segmenter([Source(data)], tmp_path, config(lr=1e30, updates=20, look_every=50), device="cpu")
    assert "masks/" in error.value.message
    assert "learning rate" in error.value.hint


def test_sides_are_never_mirrored_by_default() -> None:
    image, mask = chest(0)
    rng = np.random.default_rng(0)
    change = augmenter(SegmentAugment())
    for _ in range(20):
        _, changed = change(image, mask, rng)
        columns = [np.nonzero(changed == number)[1].mean() for number in (1, 2)]
        assert columns[0] < columns[1]


def test_augmentation_marks_what_comes_from_outside_as_unlabelled() -> None:
    image, mask = chest(0)
    change = augmenter(SegmentAugment(p=1.0, shift=0.3))
    changed = np.stack([change(image, mask, np.random.default_rng(seed))[1] for seed in range(5)])
    assert set(np.unique(changed)) == {0, 1, 2, 3, 255}


def test_the_same_numbers_give_the_same_augmentation() -> None:
    change = augmenter(SegmentAugment())
    first, second = (change(*chest(0), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_classes_with_a_side_are_never_flipped(data: Path, tmp_path: Path) -> None:
    flipped = {"augment": {"flip": 0.5}, "updates": 1}
    with pytest.raises(UsageError, match="right_lung, left_lung cannot be flipped"):
        train_segmenter([Source(data)], tmp_path / "both", config(**flipped), device="cpu")
    assert not (tmp_path / "both").exists()
    train_segmenter([Source(data)], tmp_path / "heart", config(**flipped, classes=["heart"]), device="cpu")


def test_unlabelled_pixels_change_no_gradient(data: Path) -> None:
    logits = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.randint(0, 4, (1, 8, 8), generator=torch.Generator().manual_seed(1))
    target[0, :4] = 255
    SegmentationLoss(3, 1.0, 1.0)(logits, target).backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[..., :4, :] == 0)
    assert torch.any(logits.grad[..., 4:, :] != 0)


def test_overlapping_classes_are_read_from_their_layers(tmp_path: Path) -> None:
    from cxrsynth.encoding import dumps
    from cxrsynth.records import Entry
    from cxrsynth.store import Store

    store = Store(tmp_path)
    store.write("classes.json", dumps({"classes": [{"id": 1, "name": "lung"}, {"id": 2, "name": "opacity"}]}))
    layers = np.zeros((2, 64, 64), bool)
    layers[0, 10:50, 10:50] = True
    layers[1, 20:30, 20:30] = True
    mask = np.where(layers[1], 2, layers[0]).astype(np.uint8)
    store.write_shard(
        0, [Entry({"key": "0", "split": "train"}, np.zeros((64, 64), np.uint8), mask, layers)],
        fingerprint="f", planned=["0"],
    )  # fmt: skip
    image: LabelledImage = gather(Source(tmp_path), "train", ["lung"])[0]
    assert np.array_equal(image.mask() == 1, layers[0])
