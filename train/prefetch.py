"""Batches made ahead of the step by threads. Order and content stay those of the pure function that makes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from datk.train.samples import Batch


class Prefetcher:
    """Iterates batches(start), ..., batches(stop - 1); up to threads + 1 of them are under way or waiting."""

    def __init__(self, batches: Callable[[int], Batch], *, start: int, stop: int, threads: int) -> None:
        self.batches, self.start, self.stop, self.ahead = batches, start, stop, threads + 1
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="batch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        upcoming = iter(range(self.start, self.stop))
        for step in upcoming:
            waiting.append(self.pool.submit(self.batches, step))
            if len(waiting) > self.ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
