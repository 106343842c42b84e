"""The ladder of int8 schemes: in which order, when it ends, what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datk import targets
from datk.config.load import recipe_from_dict
from datk.config.schema import SchemeSection
from datk.errors import DataError
from datk.pipeline import scheme_search
from datk.pipeline.scheme_search import (
    LEARNING,
    OWN,
    Rung,
    SearchRequest,
    climb,
    gaining,
    mending,
    rollback,
    search,
    with_rung,
)  # fmt: skip
from datk.pipeline.search_record import Outcome, SearchRecord, Tried, read_record, write_record
from datk.quantize.sensitivity_map import SensitivityMap, UnitRow
from tests.e2e.farm_run import datk, make_run

RUNGS = [
    Rung(name="weights alone", precision="int8-weights"),
    Rung(name="decoder convolutions", scheme=SchemeSection(only="convolutions")),
    OWN,
    Rung(name="SmoothQuant off", scheme=SchemeSection(smooth_quant_alpha="off"), widest=True),
    Rung(name="2 worst layers in float", scheme=SchemeSection(float_layers=("a", "b"))),
]


def answers(**outcomes: Outcome) -> tuple[Callable[[Rung], Tried | None], list[str]]:
    """An attempt that gives what it is told, "worse" else, and the names it was asked for."""
    asked: list[str] = []

    def attempt(rung: Rung) -> Tried | None:
        asked.append(rung.name)
        outcome = outcomes.get(rung.name.replace(" ", "_").replace("'", ""), "worse")
        return Tried(name=rung.name, precision=rung.precision, scheme=None, outcome=outcome, words="w", seconds=1)

    return attempt, asked


def test_the_first_precision_that_the_verdict_ships_ends_the_search() -> None:
    attempt, asked = answers(decoder_convolutions="ship")
    chosen, words = climb(RUNGS, attempt)
    assert chosen is not None and chosen.name == "decoder convolutions" and words.startswith("the verdict ships it")
    assert asked == ["weights alone", "decoder convolutions"]


def test_where_speed_is_unknown_the_widest_rung_that_passes_is_kept_and_no_narrower_one() -> None:
    attempt, asked = answers(
        weights_alone="undecided", decoder_convolutions="undecided", the_targets_own_scheme="undecided"
    )
    chosen, words = climb(RUNGS, attempt)
    assert chosen is not None and chosen.name == OWN.name and words == "its gates hold; w"
    assert asked[-1] == OWN.name


def test_int8_that_is_right_but_slow_ends_it_for_the_rest_mends_accuracy_alone() -> None:
    attempt, asked = answers(weights_alone="no gain", decoder_convolutions="no gain", the_targets_own_scheme="no gain")
    chosen, words = climb(RUNGS, attempt)
    assert chosen is None and "no gain, and no later rung is faster" in words
    assert asked[-1] == OWN.name


def test_accuracy_that_does_not_hold_goes_on_to_mending_and_failures_are_rungs_like_others() -> None:
    attempt, asked = answers(the_targets_own_scheme="failed", **{"2_worst_layers_in_float": "ship"})
    chosen, _ = climb(RUNGS, attempt)
    assert chosen is not None and chosen.name == "2 worst layers in float"
    assert asked == [r.name for r in RUNGS]
    attempt, _ = answers()
    assert climb(RUNGS, attempt) == (None, "no rung held; the last one: w")


def test_a_spent_budget_says_where_it_goes_on() -> None:
    attempt, _ = answers()
    chosen, words = climb(RUNGS, lambda rung: None if rung is OWN else attempt(rung))
    assert chosen is None and words.startswith(f"the budget ran out before '{OWN.name}'")


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A search for onnx whose rungs cost an hour each and are all worse; what was built or measured, in order."""
    done: list[str] = []
    clock = [0.0]
    path = tmp_path / "search-onnx.json"

    class Workshop(scheme_search._Search):
        def __init__(self, request: SearchRequest, target: targets.Target, reporter: Any) -> None:
            self.request, self.target, self.run_dir, self.path = request, target, tmp_path, path
            self.record = read_record(path, "key", "onnx")

        def build(self, rung: Rung) -> Any:
            done.append(rung.name)

        def attempt(self, rung: Rung) -> Tried:
            self.build(rung)
            clock[0] += 3600
            tried = Tried(name=rung.name, precision="int8", scheme=None, outcome="worse", words="w", seconds=1)
            self.record.rungs.append(tried)
            write_record(self.record, path)
            return tried

        def _sensitivity(self) -> SensitivityMap:
            done.append("map")
            units = [UnitRow(name=f"l{k}", level="layer", kind="linear", error=[k / 10]) for k in range(20)]
            return SensitivityMap(key="k", complete=True, facts={}, units=units)

    monkeypatch.setattr(scheme_search, "_Search", Workshop)
    monkeypatch.setattr(scheme_search.time, "monotonic", lambda: clock[0])
    return done


def searched(hours: float | None, done: list[str]) -> tuple[str, list[str]]:
    """(the last words, what this one call built or measured)."""
    done.clear()
    budget = None if hours is None else hours * 3600
    found = search(SearchRequest(target="onnx", budget_s=budget), reporter=None)  # type: ignore[arg-type]
    assert found.chosen is None
    return found.words, list(done)


def test_a_spent_budget_builds_nothing_more_and_the_same_line_goes_on_where_it_ended(workshop: list[str]) -> None:
    ladder = [r.name for r in (*gaining(targets.get("onnx")), *mending(targets.get("onnx")))]
    words, first = searched(3.5, workshop)
    assert first == ladder[:4], "four begun within the budget, and the own scheme is not built once more"
    assert f"before '{ladder[4]}'" in words and "the run folder is as the last try left it" in words
    assert searched(-1, workshop)[1] == [], "no time at all: nothing is built"
    _, second = searched(len(ladder) - 4.5, workshop)
    assert second == ladder[4:]
    words, third = searched(-1, workshop)
    assert third == [] and "before '1 worst layers in float'" in words, "nor is the map of sensitive layers measured"
    _, last = searched(None, workshop)
    assert last[0] == "map" and last[-2:] == [LEARNING.name, OWN.name], "all tried: the own scheme is brought back"
    _, again = searched(-1, workshop)
    assert again == ["map", OWN.name], "both lie there: read, not made"


@pytest.mark.parametrize("name", ["onnx", "jetson", "coreml", "tflite"])
def test_every_targets_ladder_starts_small_and_offers_only_what_its_compiler_has(name: str) -> None:
    target = targets.get(name)
    first = gaining(target)
    assert [r.widest for r in first] == [*[False] * (len(first) - 1), True]
    assert (first[0].precision == "int8-weights") == ("int8-weights" in target.precisions)
    assert target.scheme is not None
    smooths = target.load(target.scheme)().smooth_quant
    assert any(r.name.startswith("SmoothQuant") for r in mending(target)) == smooths


def test_the_rollback_takes_the_layers_the_map_calls_worst() -> None:
    units = [UnitRow(name=f"l{k}", level="layer", kind="linear", error=[k / 10]) for k in range(20)]
    found = SensitivityMap(key="k", complete=True, facts={}, units=units)
    rungs = rollback(found)
    layers = [r.scheme.float_layers for r in rungs if r.scheme is not None]
    assert [len(x) for x in layers] == [1, 2, 4, 8, 16]
    assert layers[1] == (r"(^|\.)l19\.", r"(^|\.)l18\.")


def test_training_under_int8_is_the_last_rung_and_leaves_no_trace_in_the_others() -> None:
    attempt, asked = answers(trained_under_the_targets_own_scheme="ship")
    chosen, _ = climb([*RUNGS, LEARNING], attempt)
    assert chosen is not None and chosen.name == LEARNING.name == asked[-1]
    recipe = recipe_from_dict(
        {"name": "n", "checkpoints": {"student": "s.pth"}, "targets": [{"name": "onnx"}, {"name": "jetson"}]}, where="t"
    )
    learning = with_rung(recipe, "onnx", LEARNING)
    assert learning.targets[0].qat == LEARNING.qat and learning.targets[1].qat is None
    assert with_rung(learning, "onnx", OWN) == recipe


@pytest.mark.parametrize(
    "words", [["--steps", "3"], ["--budget", "5m"], ["--qat", "--steps", "3", "--budget", "5m"], ["--qat", "--search"]]
)
def test_words_of_training_and_search_that_do_not_go_together_are_refused(words: list[str]) -> None:
    assert datk("quantize", "--target", "onnx", *words) == 2


def test_what_was_tried_is_found_again_and_belongs_to_one_student(tmp_path: Path) -> None:
    path = tmp_path / "search-onnx.json"
    assert read_record(path, "key", "onnx").rungs == []
    tried = Tried(name="a", precision="int8", scheme={"only": "linears"}, outcome="worse", words="", seconds=2.0)
    write_record(SearchRecord(target="onnx", key="key", rungs=[tried]), path)
    assert read_record(path, "key", "onnx").find("a") == tried
    assert read_record(path, "another", "onnx").rungs == []
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match="not a record of a search"):
        read_record(path, "key", "onnx")


@pytest.mark.slow
def test_a_search_on_a_real_run_leaves_the_scheme_it_chose_in_the_recipe_and_tries_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path, "onnx")
    capsys.readouterr()
    words = ["quantize", "--target", "onnx", "--search", "--input-size", "28", "--json", "--budget"]
    assert datk(*words, "40s") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    names = [t["name"] for t in found["rungs"]]
    assert names[0] == "weights alone" and len(set(names)) == len(names)
    assert all(t["outcome"] in ("ship", "undecided", "no gain", "worse") for t in found["rungs"])
    (section,) = yaml.safe_load((run / "00-recipe.yaml").read_text())["targets"]
    left = found["rungs"][-1] if "the budget ran out" in found["words"] else {"scheme": None}
    chosen = next((t for t in found["rungs"] if t["name"] == found["chosen"]), left)
    said = [{k: v for k, v in (scheme or {}).items() if v} for scheme in (section["scheme"], chosen["scheme"])]
    assert said[0] == said[1]
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.onnx")}
    record = (run / "search-onnx.json").read_bytes()
    assert datk(*words, "0.01s") == 0  # what was tried is not tried again, and there is no time for more
    assert (run / "search-onnx.json").read_bytes() == record
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*.onnx")} == before
