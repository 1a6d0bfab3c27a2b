"""Trained networks open in the libraries they are made of, and without torch, and answer the same."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.encoding import dumps, file_sha256
from cxrsynth.nets import classifier, segmenter
from cxrsynth.nets.network_folder import own_config, save
from cxrsynth.nets.onnx import export
from cxrsynth.nets.segmenter import DEVIATION, MEAN

CPU = torch.device("cpu")
OPTIONS = {"decoder_channels": [16, 8, 8, 8, 8]}
ENCODER = "mobilenetv3_small_050"
IMAGES = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmentation") / "model"
    network = segmenter.Network("unet", f"tu-{ENCODER}", 2, OPTIONS)
    about = {"arch": "unet", "encoder": f"tu-{ENCODER}", "options": OPTIONS, "size": 64, "classes": ["lung", "heart"]}
    save(folder, network, about, {}, network.outside())
    return folder


@pytest.fixture(scope="module")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classification") / "model"
    labels = ["AP", "effusion"]
    network = classifier.ClassifierNetwork(ENCODER, len(labels))
    about = {"encoder": ENCODER, "options": {}, "size": 64, "labels": labels, "thresholds": {}}
    save(folder, network, about, {}, network.outside(labels, 64))
    return folder


def test_smp_opens_a_segmentation_network(segmentation: Path) -> None:
    theirs = smp.from_pretrained(segmentation).eval()
    with torch.inference_mode():
        ours = segmenter.load(segmentation, CPU).network(IMAGES)
        assert torch.equal(theirs((IMAGES - MEAN) / DEVIATION), ours)


def test_timm_opens_a_classifier_and_knows_its_labels(classification: Path) -> None:
    theirs = timm.create_model(f"local-dir:{classification}", pretrained=True).eval()
    assert theirs.pretrained_cfg["label_names"] == ["AP", "effusion"]
    assert theirs.pretrained_cfg["input_size"] == (1, 64, 64)
    mean, deviation = theirs.pretrained_cfg["mean"][0], theirs.pretrained_cfg["std"][0]
    with torch.inference_mode():
        ours = classifier.load(classification, CPU).network(IMAGES)
        assert torch.equal(theirs((IMAGES - mean) / deviation), ours)


def test_a_folder_of_an_older_version_still_loads(segmentation: Path, tmp_path: Path) -> None:
    state = load_file(segmentation / "model.safetensors")
    save_file({f"body.{name}": value for name, value in state.items()}, tmp_path / "model.safetensors")
    about = {**own_config(segmentation), "sha256": file_sha256(tmp_path / "model.safetensors")}
    (tmp_path / "config.json").write_bytes(dumps(about))
    with torch.inference_mode():
        new, old = (segmenter.load(folder, CPU).network(IMAGES) for folder in (segmentation, tmp_path))
    assert torch.equal(new, old)


def test_onnx_gives_the_same_logits_for_any_number_of_images(segmentation: Path, tmp_path: Path) -> None:
    made = export(segmentation, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(made.path)
    network = segmenter.load(segmentation, CPU).network
    for part in (IMAGES, IMAGES[:1]):
        (logits,) = session.run(None, {"image": part.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(logits, network(part).numpy(), atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["names"]) == ["background", "lung", "heart"]
    assert told["size"] == "64"


def test_the_command_writes_a_classifier(classification: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export-onnx", str(classification), "-o", str(tmp_path / "c.onnx"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["names"] == ["AP", "effusion"]
    (logits,) = onnxruntime.InferenceSession(tmp_path / "c.onnx").run(None, {"image": IMAGES.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, classifier.load(classification, CPU).network(IMAGES).numpy(), atol=1e-5)
