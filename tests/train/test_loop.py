"""The training loop, whatever is learned: exact resume, two networks that take turns, the best average, no NaN."""

import errno
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxrsynth.errors import MismatchError, UsageError
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import NotFiniteError, Trained, train
from cxrsynth.train.loop_config import LoopConfig
from cxrsynth.train.task import Turn

CONFIG = LoopConfig(updates=12, batch=4, lr=0.05, warmup=1, look_every=3, ema=0.5)


class Line:
    """Fits y = 2 x; with ``rival`` a second network, from update 4 on, predicts what the first one gets wrong."""

    stem, score, shown, identity = "line", "", ("fit",), "line"

    def __init__(self, rival: bool = False, score: str = "", scores: tuple[float, ...] = ()) -> None:
        torch.manual_seed(0)
        self.net, self.rival = nn.Sequential(nn.Dropout(0.1), nn.Linear(1, 1)), nn.Linear(1, 1)
        self.turns = [Turn("fit", self.net, self.fit)]
        if rival:
            self.turns.append(Turn("rival", self.rival, self.oppose, since=4))
        self.score, self.scores = score, list(scores)
        self.seen: list[Tensor] = []
        self.poison = -1

    def batch(self, update: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(rng.standard_normal((4, 1), np.float32))
        self.seen.append(x)
        return x, 2 * x if update != self.poison else x / 0

    def fit(self, net: nn.Module, batch: Any, update: int) -> tuple[Tensor, dict[str, float]]:
        x, y = batch
        return (net(x) - y).pow(2).mean() - 0.01 * self.rival(x).mean(), {}

    def oppose(self, net: nn.Module, batch: Any, update: int) -> tuple[Tensor, dict[str, float]]:
        x, y = batch
        return (net(x) - (self.net(x) - y)).pow(2).mean(), {"turn": float(update)}

    def look(self, network: nn.Module, update: int) -> dict[str, float]:
        assert not network.training
        return {self.score: self.scores.pop(0)} if self.score else {"weight": network[1].weight.item()}


def run(task: Line, folder: Path, config: LoopConfig = CONFIG, stop_at: int = 0) -> Trained:
    def on_step(done: int, total: int, figures: dict[str, float]) -> None:
        if done == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    return train(task, folder, config, accelerate("cpu"), on_step)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


@pytest.mark.parametrize("rival", [False, True])
def test_a_stopped_training_resumes_to_the_same_weights(tmp_path: Path, rival: bool) -> None:
    whole = run(Line(rival), tmp_path / "whole")
    for stop in (3, 7):
        with pytest.raises(KeyboardInterrupt):
            run(Line(rival), tmp_path / "parts", stop_at=stop)
    assert torch.equal(weights(run(Line(rival), tmp_path / "parts").network), weights(whole.network))


def test_every_update_of_one_process_sees_another_batch(tmp_path: Path) -> None:
    task = Line()
    run(task, tmp_path)
    assert len({float(x.sum()) for x in task.seen}) == CONFIG.updates


def test_a_turn_begins_when_it_says_and_moves_its_own_network_only(tmp_path: Path) -> None:
    task = Line(rival=True)
    before = weights(task.rival).clone()
    run(task, tmp_path, CONFIG.model_copy(update={"updates": 4}))
    assert torch.equal(weights(task.rival), before)
    later = Line(rival=True)
    log = run(later, tmp_path / "later").curves.read()
    assert [line["step"] for line in log if "turn" in line] == list(range(4, 12))
    assert not torch.equal(weights(later.rival), before)


def test_the_best_average_is_kept_and_patience_ends_the_training(tmp_path: Path) -> None:
    task = Line(score="dice", scores=(0.5, 0.9, 0.6, 0.7))
    done = run(task, tmp_path, CONFIG.model_copy(update={"patience": 2, "updates": 40}))
    assert done.figures["best_update"] == 6
    assert done.figures["updates"] == 12
    assert done.figures["stopped_early"]


def test_a_loss_that_is_no_number_changes_no_weight(tmp_path: Path) -> None:
    task = Line()
    task.poison = 0
    before = weights(task.net).clone()
    with pytest.raises(NotFiniteError, match="update 1"):
        run(task, tmp_path)
    assert torch.equal(weights(task.net), before)


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(Line(), tmp_path)
    other = Line()
    other.identity = "circle"
    with pytest.raises(MismatchError, match="-o"):
        run(other, tmp_path)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    whole = run(Line(), tmp_path / "whole")
    for stop in (3, 7):
        with pytest.raises(KeyboardInterrupt):
            run(Line(), tmp_path / "parts", stop_at=stop)
    (tmp_path / "parts/line.ckpt").write_bytes(b"half a file")
    assert torch.equal(weights(run(Line(), tmp_path / "parts").network), weights(whole.network))


def test_the_log_of_updates_after_the_checkpoint_is_cut(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Line(), tmp_path, stop_at=5)
    with open(tmp_path / "line_log.jsonl", "a") as file:
        file.write('{"step": 6, "fit": 1}\n{"step": 7, "fit"')  # a run went on and was killed while it wrote
    log = run(Line(), tmp_path).curves.read()
    assert [line["step"] for line in log] == list(range(12))


def test_a_damaged_line_of_the_log_takes_no_other_with_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Line(), tmp_path, stop_at=5)
    path = tmp_path / "line_log.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1], lines[3] = b'\xff\x00{"step": 1', b'["no figures"]'
    path.write_bytes(b"\n".join(lines))
    log = run(Line(), tmp_path).curves.read()
    assert [line["step"] for line in log] == [0, 2, *range(4, 12)]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Line(), tmp_path, stop_at=3)
    before = (tmp_path / "line.ckpt").read_bytes()

    def full(body: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UsageError, match="No space left"):
        run(Line(), tmp_path)
    assert (tmp_path / "line.ckpt").read_bytes() == before
    assert not list(tmp_path.glob(".tmp*"))


def test_seconds_of_training_count_on_after_a_break(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Line(), tmp_path, stop_at=7)
    before = torch.load(tmp_path / "line.ckpt", weights_only=True)["trained"]
    done = run(Line(), tmp_path)
    after = torch.load(tmp_path / "line.ckpt", weights_only=True)["trained"]
    assert 0 < before < after
    assert done.figures["train_seconds"] == round(after, 2)
