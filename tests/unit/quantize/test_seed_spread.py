"""How far apart the seeds lie: figures by hand, and the sentence they come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.errors import DataError
from datk.evaluate.gates import default_gates
from datk.quantize.seed_spread import SeedRow, SeedSpread, read_spread, write_spread

GATES = default_gates("int8")


def spread(*rows: list[float | None], drawn: list[list[str]] | None = None) -> SeedSpread:
    names = drawn or [["a", "b"] for _ in rows]
    return SeedSpread(
        key="k",
        facts={"weights_sha256": "a", "drawn": 2, "held_out": [{"name": str(i)} for i in range(3)]},
        seeds=[SeedRow(seed=n, drawn=names[n], r=list(r)) for n, r in enumerate(rows)],
    )


def test_figures_are_those_worked_out_by_hand() -> None:
    rows = [[0.99, 0.98, 0.97], [1.0, 0.99, 0.96], [0.99, 0.99, 0.99]]
    found = spread(*rows, drawn=[["a", "b"], ["b", "c"], ["c", "d"]]).summary(GATES)
    assert found["median"] == [0.98, 0.99] and found["spread_median"] == pytest.approx(0.01)
    assert found["worst"] == [0.96, 0.99] and found["spread_worst"] == pytest.approx(0.03)
    assert found["spread_photograph"] == pytest.approx(0.01)  # 0.01, 0.01 and 0.03
    losses = [0.02, 0.05 / 3, 0.01]
    assert found["mean_loss"] == pytest.approx(sum(losses) / 3)
    assert found["spread_of_loss"] == pytest.approx(0.01 / (sum(losses) / 3))
    assert found["overlap"] == pytest.approx((0.5 + 0 + 0.5) / 3)


def test_a_seed_that_is_not_finished_is_not_counted() -> None:
    found = spread([0.99, 0.99, 0.99], [0.5]).summary(GATES)
    assert found["seeds"] == 1 and found["spread_median"] == 0 and found["overlap"] is None


@pytest.mark.parametrize(
    ("rows", "failed", "said"),
    [
        ([[1.0, 1.0, 1.0]] * 3, [], "all 3 seeds hold"),
        ([[1.0, 1.0, 1.0], [1.0, 1.0, 0.9], [1.0, 1.0, 1.0]], [1], "seed 1 of 3 fails .* which photographs"),
        ([[0.9, 0.9, 0.9]] * 3, [0, 1, 2], "none of 3 seeds holds .* not a matter of which photographs"),
        ([[1.0, 1.0, None], [1.0, 1.0, 1.0]], [0], "seed 0 of 2 fails"),
    ],
)
def test_the_sentence_says_whether_the_draw_decides(rows: list, failed: list[int], said: str) -> None:
    import re

    found = spread(*rows).summary(GATES)
    assert found["failed_seeds"] == failed and re.search(said, found["sentence"])


def test_figures_survive_the_disk_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    value = spread([0.9, None, 0.8])
    write_spread(value, tmp_path / "s.json")
    assert read_spread(tmp_path / "s.json") == value
    for damaged in ('{"key": 1}', '{"key": "k", "facts": {}}', "[" * 3):
        (tmp_path / "s.json").write_text(damaged)
        with pytest.raises(DataError, match=r"s\.json: no figures of seeds"):
            read_spread(tmp_path / "s.json")
