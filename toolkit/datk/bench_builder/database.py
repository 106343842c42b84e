"""The one file a benchmark under construction lives in: SQLite with a write-ahead log, nothing acknowledged unsaved."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from datk.errors import DataError

FILE_NAME = "bench.sqlite3"
VERSION = 1
BUSY_S = 20.0
"""How long one writer waits for another before it gives up."""

_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE annotator(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, password_hash TEXT NOT NULL,
    created_at TEXT NOT NULL) STRICT;
CREATE TABLE image(
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, scene TEXT NOT NULL, height INTEGER NOT NULL,
    width INTEGER NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    phash TEXT NOT NULL) STRICT;
CREATE TABLE key_points(
    image_id INTEGER NOT NULL REFERENCES image(id), method TEXT NOT NULL, points BLOB NOT NULL,
    PRIMARY KEY(image_id, method)) STRICT;
CREATE TABLE reading(
    image_id INTEGER NOT NULL REFERENCES image(id), method TEXT NOT NULL, expert TEXT NOT NULL, kind TEXT NOT NULL,
    vals BLOB NOT NULL, PRIMARY KEY(image_id, method, expert)) STRICT;
CREATE TABLE drawn(
    image_id INTEGER PRIMARY KEY REFERENCES image(id), settings TEXT NOT NULL, drawn INTEGER NOT NULL,
    near INTEGER NOT NULL, easy INTEGER NOT NULL, disputed INTEGER NOT NULL) STRICT;
CREATE TABLE pair(
    id INTEGER PRIMARY KEY, image_id INTEGER NOT NULL REFERENCES image(id),
    queue TEXT NOT NULL CHECK(queue IN ('disputed', 'hand', 'easy')),
    row1 INTEGER NOT NULL, column1 INTEGER NOT NULL, row2 INTEGER NOT NULL, column2 INTEGER NOT NULL,
    ratio REAL, votes TEXT NOT NULL, author_id INTEGER REFERENCES annotator(id), token TEXT UNIQUE,
    created_at TEXT NOT NULL, withdrawn_at TEXT) STRICT;
CREATE UNIQUE INDEX pair_once ON pair(
    image_id, min(row1 * 1000000 + column1, row2 * 1000000 + column2),
    max(row1 * 1000000 + column1, row2 * 1000000 + column2)) WHERE withdrawn_at IS NULL;
CREATE TABLE answer(
    id INTEGER PRIMARY KEY AUTOINCREMENT, pair_id INTEGER NOT NULL REFERENCES pair(id),
    annotator_id INTEGER NOT NULL REFERENCES annotator(id),
    choice TEXT NOT NULL CHECK(choice IN ('first', 'second', 'unsure', 'bad')),
    token TEXT NOT NULL UNIQUE, seconds REAL, at TEXT NOT NULL, undone_at TEXT) STRICT;
CREATE UNIQUE INDEX answer_once ON answer(pair_id, annotator_id) WHERE undone_at IS NULL;
CREATE TABLE lease(
    pair_id INTEGER NOT NULL REFERENCES pair(id), annotator_id INTEGER NOT NULL REFERENCES annotator(id),
    until REAL NOT NULL, PRIMARY KEY(pair_id, annotator_id)) STRICT;
"""


class Database:
    """A benchmark's file. Connections are short: one a transaction, so that threads and processes share it freely."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Open folder/bench.sqlite3, or make it. Raises DataError when it is absent, damaged or of another version."""
        self.folder = folder
        self.path = folder / FILE_NAME
        if not self.path.is_file():
            if not create:
                raise DataError(
                    f"{self.path}: nothing has been proposed or annotated here yet",
                    hint=f"datk bench propose {folder} --expert MODEL …, or datk bench annotator add {folder} NAME",
                )
            _make(self.path)
        try:
            with self.reading() as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self.path}: not a readable SQLite file ({error})", hint="restore a backup") from error
        if version != VERSION:
            raise DataError(f"{self.path}: of version {version}, this datk reads {VERSION}", hint="update datk")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection with one consistent view."""
        with closing(_connect(self.path)) as db:
            db.execute("BEGIN")
            yield db
            db.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it or nothing, on disk when the block has ended."""
        with closing(_connect(self.path)) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def meta(self, key: str) -> str:
        """A value made with the file: `secret` signs sessions."""
        with self.reading() as db:
            return str(db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])


def now() -> str:
    """UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = FULL")
    return db


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    part.touch(mode=0o600)  # holds password hashes and the key that signs sessions
    try:
        with closing(_connect(part)) as db:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            db.execute("INSERT INTO meta VALUES ('secret', ?)", (secrets.token_hex(32),))
            db.execute("PRAGMA journal_mode = WAL")
        if not path.exists():
            part.replace(path)
    finally:
        for left in path.parent.glob(f"{part.name}*"):
            left.unlink()
