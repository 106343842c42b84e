"""The table of `datk farm run`: what a job's last word is, and when it has none."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console
from rich.live import Live

from datk.cli import farm_table
from datk.farm.store import JobRow

ROW = JobRow(
    id=1, key="k", device="orin", title="fp16 on orin", state="queued", attempts=0, error="", updated="", folder=""
)


def test_a_job_that_runs_does_not_show_what_ended_the_try_before(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    out = io.StringIO()
    monkeypatch.setattr(farm_table, "STORY", Console(file=out, width=200))
    terminal = farm_table.FarmTerminal(Live())
    waiting = replace(ROW, attempts=1, error="another job holds this device")
    for row in (
        waiting,
        replace(waiting, state="running"),
        replace(waiting, state="failed", attempts=2, error="cut off"),
    ):
        terminal.jobs([row], [])
    assert [line.strip() for line in out.getvalue().splitlines()] == [
        "queued  fp16 on orin: another job holds this device",
        "running  fp16 on orin",
        "failed  fp16 on orin: cut off",
    ]
    table = farm_table._table([replace(waiting, state="running")], [])
    assert list(table.columns[4].cells) == [""]
