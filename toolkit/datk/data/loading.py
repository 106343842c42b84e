"""Samples made ahead of their use, in order, by threads or processes, with what each worker spends its time on."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from datk.errors import DatkError, EnvironmentLacks
from datk.measure.phases import take
from datk.measure.worker_process import end_with_parent

T = TypeVar("T")


@dataclass
class WorkerReport:
    """What one worker did. busy_s: seconds at work. phases_s: of these, seconds by phase (read, decode, resize)."""

    worker: str
    items: int = 0
    busy_s: float = 0.0
    phases_s: dict[str, float] = field(default_factory=dict)

    @property
    def items_per_s(self) -> float:
        """Items a second of work, waiting for the consumer not counted."""
        return self.items / self.busy_s if self.busy_s > 0 else 0.0


@dataclass(frozen=True)
class _Made(Generic[T]):
    value: T | DatkError
    worker: str
    took_s: float
    phases_s: dict[str, float]


class Loader(Generic[T]):
    """Iterates make(start), ..., make(stop - 1) in order; `ahead` of them are under way or waiting (None: 2 a worker).

    make: a pure function of a number, of images or of whole batches. workers: 0 makes each when it is asked for.
    how: "threads" (image decoders release Python's lock; nothing is copied) or "processes" (for HDF5 and other
    decoders that do not; make must be picklable). Errors of make appear at their place in the order.
    `waited_s` is how long the consumer stood waiting: 0 on a step means the data kept up.
    """

    def __init__(
        self,
        make: Callable[[int], T],
        *,
        start: int,
        stop: int,
        workers: int = 2,
        how: Literal["threads", "processes"] = "threads",
        ahead: int | None = None,
    ) -> None:
        self.make, self.start, self.stop = make, start, stop
        self.workers, self.how = workers, how
        self.ahead = max(1, ahead if ahead is not None else 2 * workers)
        self.waited_s = 0.0
        self._reports: dict[str, WorkerReport] = {}

    @property
    def reports(self) -> list[WorkerReport]:
        """One a worker, so far."""
        return [self._reports[name] for name in sorted(self._reports)]

    def __iter__(self) -> Iterator[T]:
        with closing(self._inline() if self.workers == 0 else self._pooled()) as made:
            while True:
                begun = time.perf_counter()
                item = next(made, None)
                self.waited_s += time.perf_counter() - begun
                if item is None:
                    return
                self._count(item)
                if isinstance(item.value, DatkError):
                    raise item.value
                yield item.value

    def _count(self, item: _Made[T]) -> None:
        report = self._reports.setdefault(item.worker, WorkerReport(item.worker))
        report.items += 1
        report.busy_s += item.took_s
        for name, seconds in item.phases_s.items():
            report.phases_s[name] = report.phases_s.get(name, 0.0) + seconds

    def _inline(self) -> Generator[_Made[T], None, None]:
        for number in range(self.start, self.stop):
            yield _timed(self.make, number)

    def _pooled(self) -> Generator[_Made[T], None, None]:
        waiting: deque[Future[_Made[T]]] = deque()
        pool: Executor
        work: Callable[[int], _Made[T]]
        if self.how == "threads":
            pool = ThreadPoolExecutor(self.workers, thread_name_prefix="load")
            work = partial(_timed, self.make)
        else:
            context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of ours hold
            pool = ProcessPoolExecutor(self.workers, context, initializer=_begin_worker, initargs=(self.make,))
            work = _timed_in_worker
        try:
            for number in range(self.start, self.stop):
                waiting.append(pool.submit(work, number))
                if len(waiting) >= self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise EnvironmentLacks(
                "a loader process ended without a word: most often the machine ran out of memory",
                hint="fewer loader processes, or fewer images ahead; the run resumes where it stood",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _timed(make: Callable[[int], T], number: int) -> _Made[T]:
    take()
    begun = time.perf_counter()
    value: T | DatkError
    try:
        value = make(number)
    except DatkError as error:
        value = error
    thread = threading.current_thread().name.replace("load_", "thread ").replace("MainThread", "process")
    worker = thread if thread.startswith("thread") else f"{thread} {os.getpid()}"
    return _Made(value, worker, time.perf_counter() - begun, take())


_MAKE: list[Callable[[int], Any]] = []
"""Of a worker process: what makes an item, sent once and not with every number."""


def _begin_worker(make: Callable[[int], Any]) -> None:
    """The workers are the parallelism: OpenCV must not start threads of its own in each."""
    import cv2

    end_with_parent()
    cv2.setNumThreads(1)
    _MAKE.append(make)


def _timed_in_worker(number: int) -> _Made[Any]:
    return _timed(_MAKE[0], number)
