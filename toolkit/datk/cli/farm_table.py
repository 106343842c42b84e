"""The live table of `datk farm run`: on a terminal it moves, in a pipe each change is a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from datk.cli.console import STORY

if TYPE_CHECKING:
    from datk.farm.store import JobRow

COLOURS = {"done": "green", "failed": "red", "running": "yellow", "cancelled": "dim", "queued": "dim"}
SHOWN = 20


class FarmTerminal:
    """A FarmReporter on stderr."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._seen: dict[int, tuple[str, int]] = {}

    def jobs(self, rows: Sequence[JobRow], waiting: Sequence[str]) -> None:
        """Show the jobs that move; the others as a count."""
        if STORY.is_terminal:
            self._live.update(_table(rows, waiting))
            return
        for row in rows:
            now = (row.state, row.attempts)
            if self._seen.get(row.id, ("queued", 0)) != now:
                self._seen[row.id] = now
                last = _last_word(row)
                STORY.print(escape(f"{row.state:>12}  {row.title}{': ' + last if last else ''}"), soft_wrap=True)

    def stage(self, name: str, title: str, state: str) -> None:
        """One line when a scoring ends."""
        if state == "done":
            STORY.print(f"[green]{state:>12}[/]  {escape(title)}")
        elif STORY.is_terminal:
            self._live.update(escape(f"{title} ..."))

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        """Scoring takes seconds; its bar would only flicker."""

    def note(self, text: str) -> None:
        """A line that stays."""
        STORY.print(f"{'':>12}  [dim]{escape(text)}[/]")


@contextmanager
def farm_terminal() -> Iterator[FarmTerminal]:
    """A FarmTerminal whose table lives as long as the block; Ctrl-C says how to go on."""
    try:
        with Live(console=STORY, transient=True, refresh_per_second=4) as live:
            yield FarmTerminal(live)
    except KeyboardInterrupt:
        STORY.print("interrupted: what ran on devices was ended; the same command again goes on where it stopped")
        raise


def _table(rows: Sequence[JobRow], waiting: Sequence[str]) -> Table:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    title = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    if waiting:
        title += f"; set aside: {', '.join(waiting)}"
    table = Table("job", "device", "state", "tries", "last word", title=escape(title), title_justify="left")
    order = {"running": 0, "failed": 1, "queued": 2, "done": 3, "cancelled": 4}
    for row in sorted(rows, key=lambda r: (order[r.state], r.id))[:SHOWN]:
        colour = COLOURS[row.state]
        last = escape(_last_word(row)[:60])
        table.add_row(escape(row.title), row.device, f"[{colour}]{row.state}[/]", str(row.attempts), last)
    return table


def _last_word(row: JobRow) -> str:
    """What ended or delayed the job. Of one that runs, the try before is over: its words would be read as today's."""
    return "" if row.state == "running" else row.error
