"""Batches made ahead of the step by threads. Order and content stay those of the pure function that makes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from datk.train.samples import Batch, BatchFunction
from datk.train.world import World


class Prefetcher:
    """Iterates this process's share of batches start .. stop - 1; up to threads + 1 of them wait or are under way."""

    def __init__(self, batches: BatchFunction, world: World, *, start: int, stop: int, threads: int) -> None:
        self.batches, self.world, self.start, self.stop, self.ahead = batches, world, start, stop, threads + 1
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="batch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        for step in range(self.start, self.stop):
            waiting.append(self.pool.submit(self.batches, step, self.world.rank, self.world.size))
            if len(waiting) > self.ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
