"""Batches ahead of the step: the plain order, and a record of what the threads did."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from datk.config.train_sections import AugmentSection
from datk.data.dataset import open_dataset
from datk.train.data_sources import DatasetSource
from datk.train.prefetch import LOADING, Prefetcher
from datk.train.samples import Batches
from datk.train.world import World
from tests.unit.data.layouts import WRITERS


def batches_of(root: Path) -> Batches:
    WRITERS["vkitti2"].write(root)
    source = DatasetSource(open_dataset("vkitti2", root))
    return Batches(source, input_size=(28, 42), augment=AugmentSection(), batch_size=4, seed=0)


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_come_in_the_plain_order_and_the_threads_tell_what_they_did(threads: int, tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "set")
    record = tmp_path / LOADING
    with Prefetcher(batches, World(), start=2, stop=8, threads=threads, record=record) as upcoming:
        for step, batch in enumerate(upcoming, start=2):
            assert torch.equal(batch.image, batches(step).image)
    told = json.loads(record.read_text())
    assert told["images"] == 24 and told["waited_s"] > 0
    assert sum(w["items"] for w in told["workers"]) == 6 and len(told["workers"]) <= threads
    for worker in told["workers"]:
        assert worker["images_per_s"] == pytest.approx(4 * worker["items"] / worker["busy_s"])
        assert {"read", "decode", "resize"} <= set(worker["phases_s"])


def test_a_run_that_breaks_off_leaves_no_thread_and_still_a_record(tmp_path: Path) -> None:
    import threading

    batches = batches_of(tmp_path / "set")
    with pytest.raises(KeyboardInterrupt):
        with Prefetcher(batches, World(), start=0, stop=1000, threads=2, record=tmp_path / LOADING) as upcoming:
            for _ in upcoming:
                raise KeyboardInterrupt
    time.sleep(0.01)
    assert not [t for t in threading.enumerate() if t.name.startswith("load")]
    assert json.loads((tmp_path / LOADING).read_text())["images"] == 4


def test_for_a_gpu_the_threads_lay_batches_in_locked_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which only a machine with a GPU can do: here it is counted, by thread."""
    import threading

    asked: list[str] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        asked.append(threading.current_thread().name)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batches = batches_of(tmp_path / "set")
    with Prefetcher(batches, World(), start=0, stop=2, threads=1, pin=True) as upcoming:
        for step, batch in enumerate(upcoming):
            assert batch.clean is batch.image and torch.equal(batch.target, batches(step).target)
    assert len(asked) >= 6 and threading.current_thread().name not in asked
    asked.clear()
    with Prefetcher(batches, World(), start=0, stop=1, threads=1) as upcoming:
        list(upcoming)
    assert not asked
