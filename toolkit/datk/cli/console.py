"""The terminal: results on stdout, the story on stderr, progress bars with ETA. Of several processes one speaks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from datk.cli.launch import process_number

if TYPE_CHECKING:
    from rich.progress import TaskID

STORY = Console(stderr=True, highlight=False)
RESULT = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


class TerminalReporter:
    """Tells a run on stderr: one line per stage, a live bar for each that works."""

    def __init__(self, progress: Progress) -> None:
        self._bar = progress
        self._tasks: dict[str, tuple[TaskID, str]] = {}
        """Running stages, in the order they began: bar and title."""

    def stage(self, name: str, title: str, state: str) -> None:
        """One line when a stage ends or is skipped, a fresh bar when it starts."""
        if name in self._tasks:
            self._bar.remove_task(self._tasks.pop(name)[0])
        if "" in self._tasks:
            self._bar.remove_task(self._tasks.pop("")[0])
        if state == "running":
            self._tasks[name] = (self._bar.add_task(title, total=None), title)
        else:
            colour = {"done": "green", "failed": "red"}.get(state, "dim")
            self._bar.console.print(f"[{colour}]{escape(state):>12}[/]  {escape(title)}")

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        """Move the bar of the named stage, else of the one that began last."""
        name = stage or next(reversed(self._tasks), "")
        if name not in self._tasks:
            self._tasks[name] = (self._bar.add_task(what, total=total), "")
        task, title = self._tasks[name]
        text = ": ".join(part for part in (title, what) if part)
        self._bar.update(task, completed=done, total=total, description=text)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._bar.console.print(f"{'':>12}  [dim]{escape(text)}[/]")


@contextmanager
def reporter() -> Iterator[TerminalReporter]:
    """A TerminalReporter whose bar lives as long as the block; Ctrl-C says how to go on."""
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=STORY, transient=True, refresh_per_second=4) as bar:
            yield TerminalReporter(bar)
    except KeyboardInterrupt:
        say("interrupted: run the same command again, it continues where it stopped")
        raise


def say(text: str) -> None:
    """One line of the story (stderr)."""
    if process_number():
        return
    STORY.print(escape(text), soft_wrap=True)


def result(text: str) -> None:
    """One line of the result (stdout)."""
    if not process_number():
        RESULT.print(escape(text), soft_wrap=True)


def print_json(value: Any) -> None:
    """A machine's answer on stdout."""
    if process_number():
        return
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(title: str, columns: list[str], rows: list[list[str]], *, numeric: tuple[int, ...] = ()) -> None:
    """A table on stdout, readable in a pipe as well."""
    if process_number():
        return
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for i, name in enumerate(columns):
        right = i in numeric
        table.add_column(name, justify="right" if right else "left", no_wrap=right or i == 0, overflow="fold")
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    RESULT.print(table)
