"""Queue, leases, quarantine and history in one SQLite file. Several datk processes of this machine may share it."""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from datk.errors import UsageError
from datk.farm.build_job import AnyJob, parse_job
from datk.farm.clock import Clock, Owner, boot_id

ROOT = Path("runs") / ".farm"
"""Below it: farm.sqlite, inputs/, results/."""
LEASE_S = 30.0
"""A lease nobody renews for so long is free, whether its owner lives or not."""
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, device TEXT NOT NULL, title TEXT NOT NULL, spec TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'queued', attempts INTEGER NOT NULL DEFAULT 0, ready REAL NOT NULL DEFAULT 0,
  ready_boot TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '', cancel INTEGER NOT NULL DEFAULT 0,
  created TEXT NOT NULL, updated TEXT NOT NULL, folder TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS by_device ON jobs (device, state, id);
CREATE TABLE IF NOT EXISTS leases (
  device TEXT PRIMARY KEY, job INTEGER NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL, expires REAL NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine (
  device TEXT PRIMARY KEY, reason TEXT NOT NULL, since TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, job INTEGER NOT NULL, at TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_job ON events (job, id);
CREATE TABLE IF NOT EXISTS history (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, at TEXT NOT NULL, run TEXT NOT NULL, release TEXT NOT NULL,
  git_commit TEXT NOT NULL, device TEXT NOT NULL, artifact TEXT NOT NULL, sha256 TEXT NOT NULL, figures TEXT NOT NULL,
  verdict TEXT NOT NULL, reasons TEXT NOT NULL, metrics TEXT NOT NULL);
"""


@dataclass(frozen=True)
class JobRow:
    """One job as it stands."""

    id: int
    key: str
    device: str
    title: str
    state: State
    attempts: int
    error: str
    updated: str
    folder: str
    """Of its result, below the store's results/; empty until it is done."""


@dataclass(frozen=True)
class Claim:
    """The right to run one job on one device, until the lease ends. `token` fences off an owner that lost it."""

    id: int
    token: str
    job: AnyJob
    attempts: int
    """Earlier tries that counted."""


@dataclass(frozen=True)
class Wait:
    """Nothing can be claimed now."""

    why: str
    seconds: float


@dataclass(frozen=True)
class Quarantine:
    """A device that is set aside."""

    device: str
    reason: str
    since: str
    until: float
    """Seconds since 1970."""


class Store:
    """One farm.sqlite. Every change is one transaction; nothing is kept in memory."""

    def __init__(self, root: Path = ROOT, *, clock: Clock | None = None, owner: Owner | None = None) -> None:
        self.root = root
        self.clock = clock or Clock()
        self._owner = owner or Owner.me()
        try:
            (root / "results").mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(root / "farm.sqlite", isolation_level=None, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(
                f"{root}: the farm's store cannot be used ({error})", hint="name another --store"
            ) from error
        self._db.row_factory = sqlite3.Row

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._db.close()

    @property
    def results(self) -> Path:
        return self.root / "results"

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # --- jobs

    def add(self, jobs: Iterable[AnyJob]) -> list[int]:
        """Queue jobs; one that is done stays done, one that failed or was cancelled is queued again. Returns ids."""
        now = self._now()
        ids = []
        with self._change() as db:
            for job in jobs:
                db.execute(
                    "INSERT OR IGNORE INTO jobs (key, device, title, spec, created, updated) VALUES (?,?,?,?,?,?)",
                    (job.key, job.device.name, job.title, job.model_dump_json(), now, now),
                )
                db.execute(
                    "UPDATE jobs SET state='queued', attempts=0, ready=0, error='', cancel=0, updated=?, spec=? "
                    "WHERE key=? AND (state IN ('failed','cancelled') OR (state='queued' AND cancel=0))",
                    (now, job.model_dump_json(), job.key),
                )
                ids.append(int(db.execute("SELECT id FROM jobs WHERE key=?", (job.key,)).fetchone()[0]))
        return ids

    def claim(self, device: str, ids: Sequence[int]) -> Claim | Wait | None:
        """The next of `ids` on a device, or why to wait; None when all of them have ended.

        A job whose owner died, or let its lease run out, is taken up again.
        """
        now = self.clock.mono()
        wanted = set(ids)
        with self._change() as db:
            lease = db.execute("SELECT * FROM leases WHERE device=?", (device,)).fetchone()
            if lease is not None:
                if self._held(lease, now):
                    left = db.execute("SELECT id FROM jobs WHERE device=? AND state IN ('queued','running')", (device,))
                    if not wanted & {r[0] for r in left}:
                        return None
                    return Wait("another datk runs a job on it", 0.5)
                self._requeue(db, lease)
            set_aside = self._quarantined(db, device)
            rows = db.execute(
                "SELECT id, ready, ready_boot FROM jobs WHERE device=? AND state='queued' ORDER BY id", (device,)
            )
            own = [r for r in rows if r["id"] in wanted]
            if not own:
                return None
            if set_aside is not None:
                return Wait(f"quarantined: {set_aside.reason}", float("inf"))
            boot = boot_id()
            ready = [(r["ready"] - now if r["ready_boot"] == boot else 0.0, r["id"]) for r in own]
            due = next((number for wait, number in ready if wait <= 0), None)
            if due is None:
                return Wait("a retry is due later", min(wait for wait, _ in ready))
            return self._lease(db, device, due, now)

    def renew(self, claim: Claim) -> Literal["held", "cancel", "lost"]:
        """Keep the lease; "cancel" when somebody asked for that, "lost" when another owner has it."""
        with self._change() as db:
            done = db.execute(
                "UPDATE leases SET expires=? WHERE job=? AND token=?",
                (self.clock.mono() + LEASE_S, claim.id, claim.token),
            )
            if done.rowcount == 0:
                return "lost"
            wanted = db.execute("SELECT cancel FROM jobs WHERE id=?", (claim.id,)).fetchone()[0]
        return "cancel" if wanted else "held"

    def end(self, claim: Claim, state: State, *, error: str = "", folder: str = "") -> bool:
        """Record how a claimed job ended and free its device. False when the lease was lost: nothing is recorded."""
        with self._change() as db:
            if not self._release(db, claim):
                return False
            db.execute(
                "UPDATE jobs SET state=?, error=?, folder=?, updated=?, attempts=attempts+1 WHERE id=?",
                (state, error, folder, self._now(), claim.id),
            )
            self._event(db, claim.id, f"{state}{': ' + error if error else ''}")
        return True

    def put_back(self, claim: Claim, *, error: str, delay_s: float, counts: bool) -> bool:
        """Queue a claimed job again after a delay. False when the lease was lost."""
        with self._change() as db:
            if not self._release(db, claim):
                return False
            db.execute(
                "UPDATE jobs SET state='queued', error=?, ready=?, ready_boot=?, updated=?, attempts=attempts+? "
                "WHERE id=?",
                (error, self.clock.mono() + delay_s if delay_s else 0.0, boot_id(), self._now(), int(counts), claim.id),
            )
            self._event(db, claim.id, f"again in {delay_s:.1f} s: {error}" if error else "queued again")
        return True

    def discard_remains(self) -> None:
        """Remove what tries of dead hosts left in results/: folders no lease and no record names."""
        parts = list(self.results.glob(".*.part"))
        whole = [p for p in self.results.iterdir() if not p.name.startswith(".")]
        with self._change() as db:
            held = {r["token"] for r in db.execute("SELECT * FROM leases") if self._held(r, self.clock.mono())}
            known = {r["folder"] for r in db.execute("SELECT folder FROM jobs WHERE folder != ''")}
        for folder in [*parts, *(p for p in whole if p.name not in known)]:
            if folder.name.removesuffix(".part").rsplit(".", 1)[-1] not in held:
                shutil.rmtree(folder, ignore_errors=True)

    def cancel(self, ids: Sequence[int]) -> int:
        """Cancel queued jobs at once, and ask the owners of running ones to end them. Returns how many."""
        with self._change() as db:
            count = 0
            for number in ids:
                now = self._now()
                count += db.execute(
                    "UPDATE jobs SET state='cancelled', updated=? WHERE id=? AND state='queued'", (now, number)
                ).rowcount
                count += db.execute(
                    "UPDATE jobs SET cancel=1, updated=? WHERE id=? AND state='running'", (now, number)
                ).rowcount
                self._event(db, number, "cancellation asked for")
        return count

    def rows(self, ids: Sequence[int] | None = None, *, device: str | None = None, last: int = 200) -> list[JobRow]:
        """Jobs by id; without ids the newest `last` ones, oldest first."""
        if ids is not None:
            wanted = set(ids)
            low, high = (min(wanted), max(wanted)) if wanted else (0, -1)
            found = self._db.execute("SELECT * FROM jobs WHERE id BETWEEN ? AND ? ORDER BY id", (low, high))
            return [_row(r) for r in found if r["id"] in wanted]
        where, values = ("WHERE device=?", [device]) if device else ("", [])
        found = self._db.execute(f"SELECT * FROM jobs {where} ORDER BY id DESC LIMIT ?", (*values, last))
        return [_row(r) for r in found][::-1]

    def counts(self, ids: Sequence[int]) -> dict[str, int]:
        """How many of the jobs are in each state."""
        out: dict[str, int] = {}
        for row in self.rows(ids):
            out[row.state] = out.get(row.state, 0) + 1
        return out

    def log(self, job: int, text: str) -> None:
        """Add a line to a job's story."""
        with self._change() as db:
            self._event(db, job, text)

    def events(self, job: int) -> list[tuple[str, str]]:
        """A job's story: (when, what)."""
        rows = self._db.execute("SELECT at, text FROM events WHERE job=? ORDER BY id", (job,))
        return [(r["at"], r["text"]) for r in rows]

    # --- quarantine

    def quarantine(self, device: str, reason: str, *, hours: float) -> None:
        """Set a device aside for a while."""
        with self._change() as db:
            db.execute(
                "INSERT OR REPLACE INTO quarantine VALUES (?,?,?,?)",
                (device, reason, self._now(), self.clock.wall() + 3600 * hours),
            )

    def release(self, device: str) -> bool:
        """Take a device back. False when it was not set aside."""
        with self._change() as db:
            return db.execute("DELETE FROM quarantine WHERE device=?", (device,)).rowcount > 0

    def quarantined(self) -> list[Quarantine]:
        """Devices that are set aside now."""
        rows = self._db.execute("SELECT * FROM quarantine WHERE until > ? ORDER BY device", (self.clock.wall(),))
        return [Quarantine(**dict(r)) for r in rows]

    # --- history

    def record(self, row: dict[str, Any]) -> None:
        """Keep one scored result for good; the same key again replaces it."""
        names = ("key", "run", "release", "git_commit", "device", "artifact", "sha256", "figures", "verdict")
        with self._change() as db:
            db.execute(
                f"INSERT OR REPLACE INTO history (at, {', '.join(names)}, reasons, metrics) "
                f"VALUES (?{',?' * (len(names) + 2)})",
                (self._now(), *[row[n] for n in names], json.dumps(row["reasons"]), json.dumps(row["metrics"])),
            )

    def history(self, *, device: str | None = None, artifact: str | None = None) -> list[dict[str, Any]]:
        """Scored results, oldest first."""
        rows = self._db.execute(
            "SELECT * FROM history WHERE (? IS NULL OR device=?) AND (? IS NULL OR artifact=?) ORDER BY at, id",
            (device, device, artifact, artifact),
        )
        return [{**dict(r), "reasons": json.loads(r["reasons"]), "metrics": json.loads(r["metrics"])} for r in rows]

    # --- within a transaction

    def _lease(self, db: sqlite3.Connection, device: str, number: int, now: float) -> Claim:
        token = secrets.token_hex(8)
        row = db.execute("SELECT spec, attempts FROM jobs WHERE id=?", (number,)).fetchone()
        db.execute(
            "INSERT OR REPLACE INTO leases VALUES (?,?,?,?,?)", (device, number, token, str(self._owner), now + LEASE_S)
        )
        db.execute("UPDATE jobs SET state='running', updated=? WHERE id=?", (self._now(), number))
        return Claim(number, token, parse_job(row["spec"]), int(row["attempts"]))

    def _held(self, lease: sqlite3.Row, now: float) -> bool:
        """Whether a lease binds: its owner lives and has renewed it. The wall clock has no say."""
        owner = Owner.parse(lease["owner"])
        return owner.boot == boot_id() and now < lease["expires"] and (owner == self._owner or owner.alive)

    def _requeue(self, db: sqlite3.Connection, lease: sqlite3.Row) -> None:
        db.execute("DELETE FROM leases WHERE device=?", (lease["device"],))
        taken = db.execute(
            "UPDATE jobs SET state=CASE cancel WHEN 1 THEN 'cancelled' ELSE 'queued' END, ready=0, updated=? "
            "WHERE id=? AND state='running'",
            (self._now(), lease["job"]),
        )
        if taken.rowcount:
            self._event(db, lease["job"], "its host is gone or silent: taken up again")

    def _release(self, db: sqlite3.Connection, claim: Claim) -> bool:
        return db.execute("DELETE FROM leases WHERE job=? AND token=?", (claim.id, claim.token)).rowcount > 0

    def _quarantined(self, db: sqlite3.Connection, device: str) -> Quarantine | None:
        row = db.execute(
            "SELECT * FROM quarantine WHERE device=? AND until > ?", (device, self.clock.wall())
        ).fetchone()
        return Quarantine(**dict(row)) if row else None

    def _event(self, db: sqlite3.Connection, job: int, text: str) -> None:
        db.execute("INSERT INTO events (job, at, text) VALUES (?,?,?)", (job, self._now(), text[:2000]))

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clock.wall(), UTC).isoformat(timespec="seconds")


def _row(r: sqlite3.Row) -> JobRow:
    return JobRow(**{name: r[name] for name in JobRow.__dataclass_fields__})
