"""Which pictures the benchmark may use: listed, licensed, readable; registered once with size and hashes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from datk.artifact.files import sha256_file
from datk.bench_builder.database import Database
from datk.bench_builder.image_list import ListedImage
from datk.data.phash import perceptual_hash
from datk.depth.preprocess import read_image
from datk.depth.runner import ImageU8
from datk.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One registered picture. `path` is relative to the benchmark's folder."""

    id: int
    path: str
    scene: str
    height: int
    width: int
    sha256: str
    phash: int


@dataclass(frozen=True, kw_only=True)
class Registered:
    """Outcome of a registration."""

    pictures: tuple[Picture, ...]
    unreadable: tuple[str, ...]
    """Messages naming each listed picture that could not be decoded; they are not used."""


def register(db: Database, images: tuple[ListedImage, ...], *, progress: Callable[[int, int], None]) -> Registered:
    """Decode every listed picture that is new or touched since, and remember size, SHA-256 and perceptual hash.

    Raises DataError when a picture with pairs on it has become another one: its points would mean nothing.
    """
    with db.reading() as tx:
        known = {row["path"]: row for row in tx.execute("SELECT * FROM image")}
    unreadable: dict[str, str] = {}
    for done, image in enumerate(images, start=1):
        path, row = db.folder / image.path, known.get(image.path)
        stat = path.stat()
        if row is None or (row["bytes"], row["mtime_ns"]) != (stat.st_size, stat.st_mtime_ns):
            try:
                _register(db, image, row)
            except DataError as error:
                if row is not None:
                    raise
                unreadable[image.path] = error.message
        progress(done, len(images))
    return Registered(
        pictures=tuple(pictures(db, only={i.path for i in images} - set(unreadable))),
        unreadable=tuple(unreadable.values()),
    )


def pictures(db: Database, *, only: set[str] | None = None) -> list[Picture]:
    """Registered pictures in the order of their paths."""
    with db.reading() as tx:
        rows = tx.execute("SELECT * FROM image ORDER BY path").fetchall()
    return [_picture(row) for row in rows if only is None or row["path"] in only]


def find_picture(db: Database, image_id: int) -> Picture | None:
    """The picture with this id."""
    with db.reading() as tx:
        row = tx.execute("SELECT * FROM image WHERE id = ?", (image_id,)).fetchone()
    return _picture(row) if row else None


def photo_of(db: Database, picture: Picture) -> ImageU8:
    """Its pixels, (H, W, 3) uint8 RGB. Raises DataError when the file is not the one registered."""
    photo = read_image(db.folder / picture.path)
    if photo.shape[:2] != (picture.height, picture.width):
        raise DataError(f"{picture.path}: changed since it was registered", hint="run `datk bench propose` again")
    return photo


def _register(db: Database, image: ListedImage, row: sqlite3.Row | None) -> None:
    path = db.folder / image.path
    stat, digest = path.stat(), sha256_file(path)
    if row is not None and row["sha256"] != digest:
        with db.reading() as tx:
            n = tx.execute("SELECT count(*) FROM pair WHERE image_id = ?", (row["id"],)).fetchone()[0]
        if n:
            raise DataError(
                f"{path}: another picture than the one its {n} pairs were marked on",
                hint="bring the old file back, and give the new one another name",
            )
    photo = read_image(path)
    values = (
        image.scene, photo.shape[0], photo.shape[1], digest, stat.st_size, stat.st_mtime_ns,
        f"{perceptual_hash(photo):016x}", image.path,
    )  # fmt: skip
    columns = "scene = ?, height = ?, width = ?, sha256 = ?, bytes = ?, mtime_ns = ?, phash = ?"
    with db.writing() as tx:
        if row is not None and row["sha256"] != digest:
            tx.execute("DELETE FROM key_points WHERE image_id = ?", (row["id"],))
            tx.execute("DELETE FROM reading WHERE image_id = ?", (row["id"],))
        if not tx.execute(f"UPDATE image SET {columns} WHERE path = ?", values).rowcount:
            tx.execute(
                "INSERT INTO image(scene, height, width, sha256, bytes, mtime_ns, phash, path) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )


def _picture(row: sqlite3.Row) -> Picture:
    return Picture(
        id=row["id"],
        path=row["path"],
        scene=row["scene"],
        height=row["height"],
        width=row["width"],
        sha256=row["sha256"],
        phash=int(row["phash"], 16),
    )
