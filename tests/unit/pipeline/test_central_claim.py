"""The central claim's command at toy scale: both arms run, share what they can, and are compared by scene."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from datk.config.load import find_recipe, load_recipe
from tests.unit.data.layouts import save_picture

SCRIPT = Path(__file__).parents[3] / "docs" / "experiments" / "central_claim.py"


@pytest.fixture(scope="module")
def claim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("central_claim", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_arms_differ_in_what_they_learn_from_and_nothing_else(claim: ModuleType) -> None:
    first, second = (load_recipe(find_recipe(arm)).student for arm in claim.ARMS)
    assert first is not None and second is not None
    assert (first.learn_from, second.learn_from) == ("pseudo_labels", "labelled")
    loss = second.loss.model_copy(update={"top_loss_fraction": first.loss.top_loss_fraction})
    assert second.model_copy(update={"learn_from": "pseudo_labels", "loss": loss}) == first


def test_the_interval_is_students_t_over_paired_seeds(claim: ModuleType) -> None:
    first = [{"a": 0.60}, {"a": 0.64}, {"a": 0.68}]
    second = [{"a": 0.50}, {"a": 0.53}, {"a": 0.56}]
    row = claim.compare(first, second)["a"]
    assert row["difference"] == pytest.approx(11.0) and row["first"] == pytest.approx(64.0)
    assert row["half_interval"] == pytest.approx(4.302653 * 1.0 / 3**0.5, abs=1e-5)
    assert "**+11.0 ± 2.5**" in claim.table({"a": row}, ["x", "y"], 3)


@pytest.mark.slow
def test_the_command_runs_both_arms_and_shares_scenes_between_seeds(
    claim: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        save_picture(tmp_path / "photos" / f"{number}.jpg", number, height=42, width=56)
    small = (
        "synthetic: {count: 8, size: 42x56}\nphotos: {images: photos}\npseudo_labels: {input_size: 28x28}\n"
        "student: {input_size: 28x28, schedule: {steps: 2, batch_size: 2}}\n"
    )
    teacher = "teacher: {input_size: 28x28, schedule: {steps: 2, batch_size: 2}}\n"
    (tmp_path / "one.yaml").write_text(f"extends: claim_pseudo_labels\nname: one\n{small}{teacher}")
    (tmp_path / "two.yaml").write_text(f"extends: claim_synthetic_only\nname: two\n{small}")
    found = claim.main(["--arms", "one.yaml", "two.yaml", "--seeds", "2"])
    assert len(found) == 5 and claim.POOLED in found
    said = capsys.readouterr()
    assert "| difference, points (2 seeds) |" in said.out
    assert said.err.count("05-synthetic: done") == 1, "scenes are rendered once"
    assert said.err.count("10-teacher: done") == 1, "one teacher serves all seeds"
    assert set(json.loads((tmp_path / "runs" / "central_claim.json").read_text())["scores"]) == {"one.yaml", "two.yaml"}
