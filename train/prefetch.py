"""Batches made ahead of the step by threads. Order and content stay those of the pure function that makes them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from datk.artifact.files import write_json
from datk.data.loading import Loader
from datk.train.samples import Batch, BatchFunction
from datk.train.world import World

LOADING = "loading.json"


class Prefetcher:
    """Iterates this process's share of batches start .. stop - 1; up to threads + 2 of them wait or are under way.

    record: where it is told at the end what each thread spent its time on (read, decode, resize), and how long the
    steps stood waiting for batches: the machine's side of a run, not part of its result. pin: the threads also put
    their batches into page-locked memory, for a GPU.
    """

    def __init__(
        self,
        batches: BatchFunction,
        world: World,
        *,
        start: int,
        stop: int,
        threads: int,
        record: Path | None = None,
        pin: bool = False,
    ) -> None:
        def make(step: int) -> Batch:
            batch = batches(step, world.rank, world.size)
            return batch.pinned() if pin else batch

        self.loader = Loader(
            make,
            start=start,
            stop=stop,
            workers=threads,
            ahead=threads + 2,
        )
        self.record = record
        self.images = 0
        self._made: Generator[Batch, None, None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            self._made.close()
        if self.record is not None and self.images:
            write_json(self.record, self.spent())

    def __iter__(self) -> Generator[Batch, None, None]:
        self._made = self._iterate()
        return self._made

    def _iterate(self) -> Generator[Batch, None, None]:
        for batch in self.loader:
            self.images += len(batch.image)
            yield batch

    def spent(self) -> dict[str, object]:
        """Images made, seconds waited for them, and each thread's images a second of work with its seconds by phase."""
        batches = sum(r.items for r in self.loader.reports)
        each = self.images / batches if batches else 0.0
        workers = [{**asdict(r), "images_per_s": r.items_per_s * each} for r in self.loader.reports]
        return {"images": self.images, "waited_s": self.loader.waited_s, "workers": workers}
