"""People with a login. Passwords are kept as scrypt hashes only."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sqlite3
from dataclasses import dataclass

from datk.bench_builder.database import Database, now
from datk.errors import EnvironmentLacks, UsageError

LEAST_PASSWORD = 8


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """One person. `stamp` changes with the password, which ends the sessions that were open."""

    id: int
    name: str
    stamp: str


def require_web() -> None:
    """Raise EnvironmentLacks (exit 4) with the pip line unless the page's libraries are here."""
    missing = [m for m in ("flask", "waitress") if importlib.util.find_spec(m) is None]
    if missing:
        raise EnvironmentLacks(
            f"the annotation page needs {' and '.join(missing)}, not installed here", hint='pip install "datk[bench]"'
        )


def save_annotator(db: Database, name: str, password: str) -> bool:
    """Add a person, or give a known one a new password; whether it is a new person.

    Raises UsageError for a name that is not 1 to 40 letters, digits, spaces, . _ @ or -, or a short password.
    """
    from werkzeug.security import generate_password_hash

    if not re.fullmatch(r"[\w.@-](?:[\w .@-]{0,38}[\w.@-])?", name):
        raise UsageError(f"'{name}': expected a name of 1 to 40 letters, digits, spaces, . _ @ or -")
    if len(password) < LEAST_PASSWORD:
        raise UsageError(f"the password has {len(password)} characters, expected at least {LEAST_PASSWORD}")
    hashed = generate_password_hash(password, method="scrypt")
    with db.writing() as tx:
        if tx.execute("UPDATE annotator SET password_hash = ? WHERE name = ?", (hashed, name)).rowcount:
            return False
        tx.execute("INSERT INTO annotator(name, password_hash, created_at) VALUES (?, ?, ?)", (name, hashed, now()))
        return True


def annotators(db: Database) -> list[Annotator]:
    """Everybody, in the order they were added."""
    with db.reading() as tx:
        return [_annotator(row) for row in tx.execute("SELECT * FROM annotator ORDER BY id")]


def find_annotator(db: Database, annotator_id: int) -> Annotator | None:
    """The person with this id."""
    with db.reading() as tx:
        row = tx.execute("SELECT * FROM annotator WHERE id = ?", (annotator_id,)).fetchone()
    return _annotator(row) if row else None


def check_login(db: Database, name: str, password: str) -> Annotator | None:
    """The person if name and password fit. An unknown name takes as long as a wrong password."""
    from werkzeug.security import check_password_hash, generate_password_hash

    with db.reading() as tx:
        row = tx.execute("SELECT * FROM annotator WHERE name = ?", (name,)).fetchone()
    if row is None:
        generate_password_hash(password, method="scrypt")
        return None
    return _annotator(row) if check_password_hash(row["password_hash"], password) else None


def _annotator(row: sqlite3.Row) -> Annotator:
    stamp = hashlib.sha256(row["password_hash"].encode()).hexdigest()[:16]
    return Annotator(id=row["id"], name=row["name"], stamp=stamp)
