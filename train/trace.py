"""What a training leaves to look at: loss.csv, timing.csv and, where asked for, TensorBoard's event file.

loss.csv depends on the run alone, so a resumed run has the very bytes of an uninterrupted one; seconds depend on the
machine and stand in a file of their own.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.files import atomic_path
from datk.errors import EnvironmentLacks

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float]
LOSS, TIMING, EVENTS = "loss.csv", "timing.csv", "tensorboard"


class CsvLog:
    """One row a step, kept until flush. On resume rows after the restored step, and a torn last one, are dropped."""

    def __init__(self, path: Path, *, done: int) -> None:
        self.path = path
        self.waiting: list[Row] = []
        kept = [row for row in read_log(path) if row["step"] <= done]
        self.losses = [row["loss"] for row in kept if "loss" in row]
        self.header = list(kept[0]) if kept else None
        with atomic_path(path) as part:
            part.touch()
            self._append(part, kept, head=True)

    def add(self, row: Row) -> None:
        self.waiting.append(row)
        if "loss" in row:
            self.losses.append(row["loss"])

    def flush(self) -> None:
        first = self.header is None
        if self.waiting:
            self.header = list(self.waiting[0])
        self._append(self.path, self.waiting, head=first)
        self.waiting = []

    def _append(self, path: Path, rows: list[Row], *, head: bool) -> None:
        if not rows:
            return
        with path.open("a", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, self.header or list(rows[0]))
            if head:
                writer.writeheader()
            writer.writerows(rows)

    def mean_of_last(self, count: int) -> float:
        """Mean loss of the last `count` steps, nan when there is none."""
        losses = self.losses[-count:]
        return math.fsum(losses) / len(losses) if losses else math.nan


def read_log(path: Path) -> Iterator[Row]:
    """The whole rows of a log, as numbers; a last line without its end was cut off and is left out."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as handle:
        text = handle.read()
    whole = text[: text.rfind("\n") + 1]
    for row in csv.DictReader(io.StringIO(whole, newline="")):
        yield {name: int(value) if name == "step" else float(value) for name, value in row.items()}


class Trace:
    """All logs of one training; writes nothing in any but the main process."""

    def __init__(self, folder: Path, *, done: int, main: bool, tensorboard: bool) -> None:
        self.main, self.path = main, folder / LOSS
        self.events: SummaryWriter | None = None
        if not main:
            return
        self.loss, self.timing = CsvLog(folder / LOSS, done=done), CsvLog(folder / TIMING, done=done)
        if tensorboard:
            self.events = _writer(folder / EVENTS, done)

    def add(self, row: Row, *, step_s: float, wait_s: float, images: int) -> None:
        """row: the step's losses. step_s: seconds it took. wait_s: seconds it waited for its images before."""
        if not self.main:
            return
        timing = {"step": row["step"], "step_s": step_s, "wait_s": wait_s, "images_per_s": images / (step_s + wait_s)}
        self.loss.add(row)
        self.timing.add({name: value if name == "step" else round(value, 6) for name, value in timing.items()})
        self.scalars(row, group="train")
        self.scalars(timing, group="time")

    def scalars(self, row: Row, *, group: str) -> None:
        """Hand a row to TensorBoard; step is its place on the axis."""
        if self.events is not None:
            for name, value in row.items():
                if name != "step":
                    self.events.add_scalar(f"{group}/{name}", value, int(row["step"]))

    def flush(self) -> None:
        if self.main:
            self.loss.flush()
            self.timing.flush()
        if self.events is not None:
            self.events.flush()

    def close(self) -> None:
        self.flush()
        if self.events is not None:
            self.events.close()

    def final_loss(self, done: int) -> float:
        """Mean total loss of the last tenth of the steps; nan in other processes than the main one."""
        return self.loss.mean_of_last(max(1, done // 10)) if self.main else math.nan


def _writer(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise EnvironmentLacks(
            "schedule.tensorboard: true, but TensorBoard is not installed", hint="pip install 'datk[train]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=done + 1)
