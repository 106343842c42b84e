"""A small benchmark on disk."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datk.bench_builder.answering import insert_pair, save_answer
from datk.bench_builder.database import Database
from datk.bench_builder.image_list import HEADER, ListedImage, read_image_list
from datk.bench_builder.pictures import register
from datk.bench_builder.plan import Plan, read_plan, write_draft
from datk.bench_builder.queue import Turn, next_turn
from datk.bench_builder.voting import Choice

ImageWriter = Callable[[Path, dict[str, list[str]]], None]


@pytest.fixture
def write_images() -> ImageWriter:
    """Write pictures below folder/images and a list of them: `write_images(folder, {scene: [file, ...]})`."""

    def write(folder: Path, scenes: dict[str, list[str]]) -> None:
        rng = np.random.default_rng(0)
        with (folder / "images.csv").open("w", newline="") as handle:
            lines = csv.writer(handle)
            lines.writerow(HEADER)
            for scene, files in scenes.items():
                for file in files:
                    path = folder / "images" / scene / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    coarse = rng.integers(0, 255, (9, 12, 3), np.uint8)
                    cv2.imwrite(str(path), cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC))
                    lines.writerow([scene, file, f"https://example.org/{file}", "CC0-1.0", "the author", "a word"])

    return write


@dataclass(frozen=True)
class Bench:
    """A benchmark of six pictures in three scenes, with three annotators: ann, bob and cy."""

    folder: Path
    db: Database
    plan: Plan
    images: tuple[ListedImage, ...]
    people: dict[str, int]

    def pair(self, image: int = 1, *, queue: str = "disputed", shift: int = 0, **more: Any) -> int:
        """A new pair on a picture; its id."""
        with self.db.writing() as tx:
            found = insert_pair(
                tx, image_id=image, queue=queue, first=(10 + shift, 20), second=(90, 130 - shift), **more
            )
        assert found is not None
        return found

    def answer(self, who: str, pair: int, choice: str, *, token: str | None = None) -> int:
        """One answer; its id."""
        return save_answer(
            self.db,
            annotator_id=self.people[who],
            pair_id=pair,
            choice=Choice(choice),
            token=token or f"{who}-{pair}-{choice}",
            seconds=1.5,
        )

    def turn(self, who: str) -> Turn:
        """What this person sees next."""
        return next_turn(self.db, self.people[who], checkers=self.plan.checkers)


@pytest.fixture
def bench(tmp_path: Path, write_images: ImageWriter) -> Bench:
    folder = tmp_path / "bench"
    write_draft(folder, name="trucks", images=6)
    write_images(folder, {"indoor": ["a.jpg", "b.jpg", "c.jpg"], "outdoor": ["d.jpg", "e.png"], "object": ["f.jpg"]})
    plan = read_plan(folder)
    images = read_image_list(folder, scenes=plan.scenes).present
    db = Database(folder, create=True)
    register(db, images, progress=lambda done, total: None)
    people = {}
    with db.writing() as tx:
        for name in ("ann", "bob", "cy"):
            done = tx.execute("INSERT INTO annotator(name, password_hash, created_at) VALUES (?, 'x', '')", (name,))
            assert done.lastrowid is not None
            people[name] = done.lastrowid
    return Bench(folder, db, plan, images, people)
