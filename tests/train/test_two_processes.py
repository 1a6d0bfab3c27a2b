"""Two processes of one training, with gloo on the CPU: a signal to one of them stops both after the same update."""

import os
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as processes

from cxrsynth.train.checkpoint import read
from cxrsynth.train.device import accelerate
from cxrsynth.train.loop import train
from tests.train.test_loop import CONFIG, Line

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
    pytest.mark.timeout(400),  # where one waits for the other for ever
]


def work(rank: int, folder: Path, port: int) -> None:
    """One of the two; the second gets SIGTERM in its third update."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    seen = 0

    def on_step(done: int, total: int, figures: dict[str, float]) -> None:
        nonlocal seen
        seen = done
        if rank == 1 and done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        train(Line(), folder, CONFIG, accelerate("cpu"), on_step)
    except KeyboardInterrupt:
        (folder / f"stopped-{rank}").write_text(str(seen))


def test_a_signal_to_one_of_two_processes_stops_both_after_the_same_update(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes.spawn(work, (tmp_path, port), nprocs=2)
    assert [(tmp_path / f"stopped-{rank}").read_text() for rank in (0, 1)] == ["4", "4"]
    saved = read(tmp_path / "line.ckpt")
    assert saved is not None
    assert saved["step"] == 4
