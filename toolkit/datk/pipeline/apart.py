"""Build stages of several targets at once, each in a process of its own: a converter uses one core, and they are slow.

What is timed never runs here: measuring stays in the first process, with nothing beside it.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.manifest import Manifest
from datk.errors import EnvironmentLacks
from datk.measure.heap import keep_freed_memory
from datk.measure.memory import available_bytes
from datk.measure.worker_process import end_with_parent
from datk.pipeline.build_stage import build_stage
from datk.pipeline.stage import Reporter, Stage

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

BASE_BYTES = 3 << 30
"""Allowed for torch, NNCF and a converter, whatever the net: no measurement (`make bench` prints peaks)."""
WEIGHT_COPIES = 12
"""Allowed beside that for graphs, calibration and copies, in sizes of the weights: an allowance as well."""
THREADS = "OMP_NUM_THREADS"
POLL_S = 0.2


def processes_that_fit(weights_bytes: int, stages: int) -> int:
    """How many of `stages` to build at a time: no more than there are cores, or than memory holds. At least 1.

    weights_bytes: size of the student's file. Where the system does not tell its free memory: 1.
    """
    free = available_bytes()
    room = 1 if free is None else free // (BASE_BYTES + WEIGHT_COPIES * weights_bytes)
    return max(1, min(stages, _cores(), room))


class StagePool:
    """`processes` workers that build stages; an error or Ctrl-C in the `with` block ends them at once."""

    def __init__(self, processes: int, reporter: Reporter) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of torch's hold
        self._said: Queue[tuple[str, str, Any]] = context.Queue()
        stay, self._staying = context.Pipe(duplex=False)  # not an Event: its set() waits for ever for a killed worker
        self._reporter = reporter
        self._waiting: dict[Future[Manifest], Stage] = {}
        self.processes = processes
        self._threads = max(1, _cores() // processes)
        self._pool = ProcessPoolExecutor(
            processes,
            mp_context=context,
            initializer=_begin,
            initargs=(self._said, stay),
        )

    def __enter__(self) -> StagePool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._staying.close()
        self._pool.shutdown(cancel_futures=True)
        self._staying.close()

    @property
    def running(self) -> int:
        """Stages handed in and not yet returned."""
        return len(self._waiting)

    def start(self, stage: Stage, folder: Path, before: Mapping[str, Manifest], seed: int) -> None:
        """Hand a stage to the next free worker."""
        needed = {name: before[name] for name in stage.needs}
        with _as_a_worker_begins(self._threads):
            self._waiting[self._pool.submit(_build, stage, folder, needed, seed)] = stage

    def finished(self) -> Sequence[tuple[Stage, Future[Manifest]]]:
        """Wait for the next stages to end; meanwhile what the workers say goes to the reporter.

        Raises EnvironmentLacks when a worker was killed: the futures of all are lost then.
        """
        while True:
            done, _ = wait(self._waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
            self._pass_on()
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                building = ", ".join(sorted(stage.name for stage in self._waiting.values()))
                raise EnvironmentLacks(
                    f"a process that built {building} ended without a word; most often the system was out of memory",
                    hint="the same command with --jobs 1 goes on from what is built",
                )
            if done:
                return [(self._waiting.pop(future), future) for future in done]

    def _pass_on(self) -> None:
        while True:
            try:
                what, stage, value = self._said.get_nowait()
            except queue.Empty:
                return
            if what == "note":
                self._reporter.note(value)
            else:
                done, total, text = value
                self._reporter.progress(done, total, text, stage=stage)


@contextmanager
def _as_a_worker_begins(threads: int) -> Iterator[None]:
    """A process begun here finds its share of the cores named before it imports anything, and never sees Ctrl-C: the
    first process does, and tells it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    named = os.environ.get(THREADS)
    os.environ[THREADS] = str(threads)
    try:
        yield
    finally:
        if named is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = named
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- in a worker -----------------------------------------------------------------------------------------------------

_HERE: dict[str, Any] = {}


def _begin(said: Queue[tuple[str, str, Any]], stay: Connection) -> None:
    end_with_parent()
    keep_freed_memory()
    threading.Thread(target=_leave_when_told, args=(stay,), name="told to leave", daemon=True).start()
    _HERE["said"] = said


def _leave_when_told(stay: Connection) -> None:
    stay.poll(None)  # nothing is ever sent: readable means the first process closed its end, or is gone
    os._exit(1)  # half a stage lies in its hidden folder, as after any interruption


class _Messenger:
    """The Reporter of a stage that is built in a worker."""

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def stage(self, name: str, title: str, state: str) -> None:
        """The first process tells what starts and ends."""

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        _HERE["said"].put(("progress", stage or self._stage, (done, total, what)))

    def note(self, text: str) -> None:
        _HERE["said"].put(("note", self._stage, text))


def _build(stage: Stage, folder: Path, before: dict[str, Manifest], seed: int) -> Manifest:
    return build_stage(stage, folder, before, seed=seed, reporter=_Messenger(stage.name))
