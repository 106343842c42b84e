"""Experts are read once, dissent is queued once, a stop costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datk.bench_builder.keypoints import SuperpixelPoints
from datk.bench_builder.pictures import pictures, register
from datk.bench_builder.plan import PairRules
from datk.bench_builder.propose import Expert, Proposed, propose
from datk.bench_builder.queue import all_pairs
from datk.bench_builder.voting import Choice
from datk.depth.io_spec import DepthKind
from datk.errors import DataError, UsageError

FINDER = SuperpixelPoints(short_side=120, cell=24)
RULES = PairRules(per_image=2, min_depth_ratio=1.5)


class Quiet:
    def stage(self, name: str, title: str, state: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "") -> None: ...


class Field:
    """A map over the pixel grid: `rows` nearer below, `columns` nearer on the right."""

    label, input_size, depth_kind = "toy", (14, 14), DepthKind.DISPARITY_AFFINE_INVARIANT

    def __init__(self, name: str, opened: list[str], *, broken_after: int | None = None) -> None:
        self.name = name
        self._left = broken_after
        opened.append(name)

    def predict_photo(self, photo: np.ndarray) -> np.ndarray:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        rows, columns = np.mgrid[1 : photo.shape[0] + 1, 1 : photo.shape[1] + 1].astype(np.float32)
        return rows if self.name.startswith("rows") else columns

    predict = predict_photo

    def close(self) -> None: ...


def experts(*names: str, opened: list[str] | None = None, **options: Any) -> list[Expert]:
    seen: list[str] = [] if opened is None else opened
    return [Expert(name=n, key=f"key-{n}", open=lambda n=n: Field(n, seen, **options)) for n in names]  # type: ignore[misc]


def run(bench: Any, who: list[Expert], *, rules: PairRules = RULES, seed: int = 0, easy: bool = False) -> Proposed:
    shots = [p for p in pictures(bench.db) if not bench.plan.scenes[p.scene].hand_picked]
    return propose(bench.db, shots, who, FINDER, rules, seed=seed, keep_easy=easy, reporter=Quiet())


def test_what_experts_dissent_on_is_queued_with_votes_and_ratio(bench: Any) -> None:
    proposed = run(bench, experts("rows", "columns"))
    pairs = all_pairs(bench.db)
    assert proposed.added == len(pairs) == proposed.disputed > 0
    assert {p.scene for p in pairs} == {"indoor", "outdoor"}  # `object` is for people alone
    for pair in pairs:
        lower = pair.first[0] > pair.second[0]
        right = pair.first[1] > pair.second[1]
        assert pair.votes["rows"] is (Choice.FIRST if lower else Choice.SECOND)
        assert pair.votes["columns"] is (Choice.FIRST if right else Choice.SECOND)
        assert lower != right and pair.ratio is not None and pair.ratio > 1.5


def test_unanimous_experts_queue_nothing_unless_easy_pairs_are_kept(bench: Any) -> None:
    same = experts("rows", "rows2")
    assert run(bench, same).added == 0
    kept = run(bench, same, easy=True)
    assert kept.added == 10 and {p.queue for p in all_pairs(bench.db)} == {"easy"}


def test_proposing_again_adds_nothing_and_opens_no_expert(bench: Any) -> None:
    first = run(bench, experts("rows", "columns"))
    opened: list[str] = []
    again = run(bench, experts("rows", "columns", opened=opened))
    assert opened == [] and again.added == 0 and again.disputed == first.disputed
    assert run(bench, experts("rows", "columns", "rows2", opened=opened)).added == 0
    assert opened == ["rows2"]


def test_a_stopped_proposal_goes_on_to_the_same_queue(bench: Any, tmp_path: Path, write_images: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(bench, experts("rows", "columns", broken_after=3))
    run(bench, experts("rows", "columns"))
    stopped = [(p.path, p.first, p.second) for p in all_pairs(bench.db)]
    with bench.db.writing() as tx:
        for table in ("pair", "drawn", "reading", "key_points"):
            tx.execute(f"DELETE FROM {table}")
    run(bench, experts("rows", "columns"))
    assert stopped == [(p.path, p.first, p.second) for p in all_pairs(bench.db)]


def test_more_pairs_an_image_tops_up(bench: Any) -> None:
    run(bench, experts("rows", "columns"), rules=PairRules(per_image=1, min_depth_ratio=1.5))
    before = {p.id for p in all_pairs(bench.db)}
    run(bench, experts("rows", "columns"), rules=PairRules(per_image=3, min_depth_ratio=1.5))
    after = all_pairs(bench.db)
    assert before < {p.id for p in after}
    assert max(sum(p.path == q.path for q in after) for p in after) == 3


def test_one_expert_or_one_twice_is_refused(bench: Any) -> None:
    with pytest.raises(UsageError, match="never dissents"):
        run(bench, experts("rows"))
    with pytest.raises(UsageError, match="same weights"):
        run(bench, [*experts("rows"), *experts("rows")])


def test_a_picture_replaced_under_its_pairs_is_refused(bench: Any) -> None:
    bench.pair()
    cv2.imwrite(str(bench.folder / bench.images[0].path), np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(DataError, match="another picture"):
        register(bench.db, bench.images, progress=lambda done, total: None)


def test_an_unreadable_picture_is_named_and_left_out(bench: Any) -> None:
    (bench.folder / bench.images[1].path).write_bytes(b"\xff\xd8 cut")
    with bench.db.writing() as tx:
        tx.execute("DELETE FROM image")
    found = register(bench.db, bench.images, progress=lambda done, total: None)
    assert len(found.pictures) == 5 and "b.jpg" in found.unreadable[0]
