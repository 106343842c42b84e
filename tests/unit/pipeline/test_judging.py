"""Anything side by side: answers kept by content, several processes, kills, gates, and what CI is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from datk.errors import DataError, GateFailed, UsageError
from datk.evaluate.benchmarks.pairs import BenchResult
from datk.evaluate.benchmarks.task import TaskRequest, open_task
from datk.evaluate.gate_rules import parse_rule
from datk.pipeline import judging
from datk.pipeline.judging import Contender, contenders_of, judge
from datk.pipeline.side_by_side import compare_all, keep, told
from datk.report.ci import junit, markdown
from datk.report.judged_file import read_judged


def da2k(root: Path, count: int, *, pairs: int = 4, size: tuple[int, int] = (30, 40)) -> Path:
    """A DA-2K of random pairs on `count` small pictures in two scenes."""
    rng = np.random.default_rng(0)
    annotations = {}
    for number in range(count):
        path = root / "images" / ("indoor", "aerial")[number % 2] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (*size, 3), np.uint8))
        points = rng.integers(0, size[0], (pairs, 2, 2)).tolist()
        annotations[path.relative_to(root).as_posix()] = [
            {"point1": a, "point2": b, "closer_point": "point1"} for a, b in points if a != b
        ]
    (root / "annotations.json").write_text(json.dumps(annotations))
    return root


def maps(folder: Path, root: Path, right: float, *, seed: int = 1, quantity: str = "disparity") -> str:
    """Maps that order about `right` of the pairs rightly; returns the spec. Stored as depth when asked for."""
    rng = np.random.default_rng(seed)
    for key, entries in json.loads((root / "annotations.json").read_text()).items():
        picture = cv2.imread(str(root / key))
        values = rng.uniform(0.4, 0.6, picture.shape[:2]).astype(np.float32)
        for k, entry in enumerate(entries):
            good = rng.random() < right
            values[tuple(entry["point1"])], values[tuple(entry["point2"])] = (0.9 + k, 0.1) if good else (0.1, 0.9 + k)
        path = folder / Path(key).with_suffix(".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values if quantity == "disparity" else 10 - values)
    sign = "nearer" if quantity == "disparity" else "farther"
    return f"preds:{folder},quantity={quantity},larger_is={sign}"


def scored(spec: str, root: Path, **more: Any) -> judging.Scored:
    request = TaskRequest(bench="da2k", data=root)
    name = Path(spec.removeprefix("preds:").partition(",")[0]).name
    return judge(Contender(name=name, spec=spec), request, open_task(request), **more)


def outcomes(item: judging.Scored) -> dict[str, str]:
    assert isinstance(item.result, BenchResult)
    return item.result.outcomes


def test_depth_and_disparity_maps_of_outside_programs_are_judged_by_their_stated_sign(tmp_path: Path) -> None:
    root = da2k(tmp_path / "set", 6)
    near = scored(maps(tmp_path / "near", root, 1.0), root, cache=None)
    far = scored(maps(tmp_path / "far", root, 1.0, quantity="depth"), root, cache=None)
    assert outcomes(near) == outcomes(far)
    wrong = scored(f"preds:{tmp_path / 'near'},quantity=depth,larger_is=farther", root, cache=None)
    assert isinstance(near.result, BenchResult) and isinstance(wrong.result, BenchResult)
    assert near.result.overall.right + wrong.result.overall.right == near.result.overall.n
    turned = scored(f"preds:{tmp_path / 'near'},quantity=depth,larger_is=nearer", root, cache=None)
    assert outcomes(turned) == outcomes(near)


def test_what_outside_maps_mean_is_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for spec, message in (
        (f"preds:{tmp_path / 'm'}", "must be said"),
        (f"preds:{tmp_path / 'm'},quantity=disparity", "larger_is"),
        (f"preds:{tmp_path / 'm'},quantity=inverse,larger_is=nearer", "quantity"),
        (f"preds:{tmp_path / 'm'},quantity=metric_depth,larger_is=nearer", "is no depth"),
        (f"preds:{tmp_path / 'm'},disparity", "is not KEY=VALUE"),
        (f"preds:{tmp_path / 'gone'}", "is no folder"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            Contender(name="m", spec=spec).digest()
        assert caught.value.hint
    (tmp_path / "m" / "predictions.json").write_text('{"quantity": "depth", "larger_is": "farther", "program": "X"}')
    assert "depth" in Contender(name="m", spec=f"preds:{tmp_path / 'm'}").digest()


def test_a_folder_that_predict_wrote_is_taken_as_it_lies_and_refuses_maps_of_another_meaning(tmp_path: Path) -> None:
    from datk.depth.io_spec import DepthKind
    from datk.pipeline.predict import predict_photos

    root = da2k(tmp_path / "set", 4)

    class Ramp:
        name, label, input_size = "ramp", "toy", (14, 14)
        depth_kind = DepthKind.DISPARITY_AFFINE_INVARIANT

        def predict(self, image: np.ndarray) -> np.ndarray:
            return np.tile(np.linspace(0, 1, 14, dtype=np.float32)[:, None], (1, 14))

        def close(self) -> None: ...

    def predict(runner: Any, out: Path) -> None:
        predict_photos(runner, sorted(root.rglob("*.png")), out, progress=lambda a, b: None, note=print)

    predict(Ramp(), tmp_path / "out")
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".npy", ".png", ".json"}
    plain = scored(f"preds:{tmp_path / 'out'}", root, cache=None)
    turned = scored(f"preds:{tmp_path / 'out'},larger_is=farther", root, cache=None)
    assert isinstance(plain.result, BenchResult) and isinstance(turned.result, BenchResult)
    assert plain.result.overall.right + turned.result.overall.right == plain.result.overall.n > 0
    metric = Ramp()
    metric.depth_kind = DepthKind.DEPTH_METRIC_M
    with pytest.raises(DataError, match="holds maps of disparity, larger is nearer; these are metric_depth"):
        predict(metric, tmp_path / "out")


def test_sixteen_bit_maps_other_sizes_and_missing_ones(tmp_path: Path) -> None:
    root = da2k(tmp_path / "set", 4)
    spec = maps(tmp_path / "m", root, 1.0)
    found = sorted((tmp_path / "m").rglob("*.npy"))
    values = np.load(found[0])
    found[0].unlink()
    cv2.imwrite(str(found[0].with_suffix(".png")), np.round(values * 10_000).astype(np.uint16))
    np.save(found[1], cv2.resize(np.load(found[1]), (80, 60), interpolation=cv2.INTER_NEAREST))
    found[2].unlink()
    np.save(found[3], np.load(found[3])[:, :20])
    result = scored(spec, root, cache=None).result
    assert isinstance(result, BenchResult)
    said = list(result.unreadable_images.values())
    assert len(said) == 2 and "no map for" in said[0] and "another shape" in said[1]
    assert result.overall.n < result.n_annotated_pairs


def test_two_images_are_never_answered_by_one_file(tmp_path: Path) -> None:
    root = da2k(tmp_path / "set", 2)
    (root / "images" / "aerial" / "0000.png").write_bytes((root / "images" / "indoor" / "0000.png").read_bytes())
    found = json.loads((root / "annotations.json").read_text())
    found["images/aerial/0000.png"] = found["images/indoor/0000.png"]
    (root / "annotations.json").write_text(json.dumps(found))
    (tmp_path / "flat").mkdir()
    np.save(tmp_path / "flat" / "0000.npy", np.zeros((30, 40), np.float32))
    with pytest.raises(UsageError, match="would answer both"):
        scored(f"preds:{tmp_path / 'flat'},quantity=disparity,larger_is=nearer", root, cache=None)


def test_answers_are_kept_by_content_and_only_what_changed_is_asked_again(tmp_path: Path) -> None:
    root = da2k(tmp_path / "set", 8)
    spec = maps(tmp_path / "m", root, 0.7)
    first = scored(spec, root, cache=tmp_path / "answers")
    assert first.n_kept == 0 and scored(spec, root, cache=tmp_path / "answers").n_kept == 8
    one = next((tmp_path / "m").rglob("0003.npy"))
    np.save(one, -np.load(one))
    picture = root / "images" / "indoor" / "0004.png"
    cv2.imwrite(str(picture), 255 - cv2.imread(str(picture)))
    again = scored(spec, root, cache=tmp_path / "answers")
    assert again.n_kept == 6
    assert outcomes(again) == outcomes(scored(spec, root, cache=None))
    other = f"{spec.replace('disparity', 'depth')}"
    assert scored(other, root, cache=tmp_path / "answers").n_kept == 0  # the same files, meaning something else


def test_unreadable_images_are_asked_again_and_named_rightly(tmp_path: Path) -> None:
    root = da2k(tmp_path / "set", 4)
    spec = maps(tmp_path / "m", root, 0.7)
    for name in ("indoor/0000.png", "aerial/0001.png"):
        (root / "images" / name).write_bytes(b"same rubbish")
    first = scored(spec, root, cache=tmp_path / "answers")
    again = scored(spec, root, cache=tmp_path / "answers")
    assert again.n_kept == 2 and first.result == again.result
    assert isinstance(again.result, BenchResult)
    assert all(path in why for path, why in again.result.unreadable_images.items())


def test_several_processes_give_the_same_result(tmp_path: Path) -> None:
    root = da2k(tmp_path / "set", 8)
    spec = maps(tmp_path / "m", root, 0.7)
    assert scored(spec, root, cache=None, jobs=2).result == scored(spec, root, cache=None).result


def test_a_torn_line_is_forgotten_and_the_rest_is_used(tmp_path: Path) -> None:
    root = da2k(tmp_path / "set", 6)
    spec = maps(tmp_path / "m", root, 0.7)
    whole = scored(spec, root, cache=tmp_path / "answers")
    file = next((tmp_path / "answers").iterdir())
    file.write_bytes(file.read_bytes()[:-7])
    again = scored(spec, root, cache=tmp_path / "answers")
    assert again.n_kept == 5 and again.result == whole.result
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_killed_and_resumed_gives_the_same_numbers(tmp_path: Path) -> None:
    root = da2k(tmp_path / "set", 60, size=(300, 400))
    spec = maps(tmp_path / "m", root, 0.7)
    code = (
        "import sys, time; from pathlib import Path; from datk.evaluate.benchmarks import pairs, task;"
        "slow = pairs.score_image; task.score_image = lambda *a: (time.sleep(0.05), slow(*a))[1];"
        "from datk.pipeline.judging import *; r = TaskRequest(bench='da2k', data=Path(sys.argv[1]));"
        "judge(Contender(name='m', spec=sys.argv[2]), r, open_task(r), cache=Path(sys.argv[3]))"
    )
    answers = tmp_path / "answers"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(root), spec, str(answers)], env={**os.environ, "PYTHONPATH": "toolkit"}
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and sum(len(f.read_bytes()) for f in answers.glob("*")) < 2000:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    resumed = scored(spec, root, cache=answers)
    assert 0 < resumed.n_kept < 60
    assert resumed.result == scored(spec, root, cache=None).result


def test_models_named_twice_and_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="named twice"):
        contenders_of(["a.pth", "a.pth"], name_of=lambda s: s)
    with pytest.raises(UsageError, match="500 is not a multiple of 14"):
        contenders_of(["a.pth"], sizes=("518", "500"), name_of=lambda s: s)
    two = contenders_of(["x/a.pth", "y/a.pth"], sizes=("518", "392x518"), name_of=lambda s: Path(s).name)
    assert [(c.name, c.short_side, c.size) for c in two][:2] == [
        ("x/a.pth@518", 518, None),
        ("x/a.pth@392x518", None, (392, 518)),
    ]


# ------------------------------------------------------------------------------------------------ differences, gates


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[judging.Scored]:
    """good on 95 % of 400 pairs, alike on 93 %, bad on 60 %."""
    place = tmp_path_factory.mktemp("three")
    root = da2k(place / "set", 100)
    specs = [maps(place / n, root, r, seed=s) for n, r, s in (("good", 0.95, 1), ("alike", 0.93, 2), ("bad", 0.6, 3))]
    return [scored(spec, root, cache=None) for spec in specs]


def test_differences_are_told_in_words_that_the_statistics_allow(three: list[judging.Scored]) -> None:
    good, alike, bad = compare_all(three, [])
    assert good.difference is None and alike.difference is not None and bad.difference is not None
    assert alike.difference.words.startswith("not distinguishable from good")
    assert bad.difference.words.startswith("worse than good") and bad.difference.p is not None
    assert bad.difference.p < 1e-6 and bad.difference.high < 0
    other = compare_all(three, [], versus="bad")[0].difference
    assert other is not None and other.words.startswith("better than bad")


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("da2k>=-0.5pp vs good", "failed"),
        ("da2k>=-50pp vs good", "passed"),
        ("accuracy>=90%", "failed"),
        ("da2k >= 50", "passed"),
        ("da2k>=-60pp vs good surely", "passed"),
    ],
)
def test_gates_judge_the_observed_figure_or_the_whole_interval(
    three: list[judging.Scored], rule: str, status: str
) -> None:
    bad = compare_all(three, [parse_rule(rule)])[2]
    assert [g.status for g in bad.gates] == [status]


def test_surely_asks_the_whole_interval_where_the_observed_figure_would_do(three: list[judging.Scored]) -> None:
    difference = compare_all(three, [])[2].difference
    assert difference is not None
    between = (difference.low + difference.value) / 2
    for how, status in (("", "passed"), (" surely", "failed")):
        rules = [parse_rule(f"da2k>={between:.4f}pp vs good{how}")]
        assert [g.status for g in compare_all(three, rules)[2].gates] == [status]


def test_noise_is_forgiven_only_where_the_rule_says_so(three: list[judging.Scored]) -> None:
    """The lesser of two nets that nothing tells apart."""
    a, b = three[0], three[1]
    first = compare_all([a, b], [])[1].difference
    assert first is not None
    lesser, better = (b, a) if first.value < 0 else (a, b)
    name = better.contender.name
    for rule, status in ((f"da2k>=-0.1pp vs {name}", "failed"), (f"da2k>=-0.1pp vs {name} unless noise", "passed")):
        gates = {i.scored.contender.name: i.gates for i in compare_all([better, lesser], [parse_rule(rule)])}
        assert gates[lesser.contender.name][0].status == status and gates[name] == ()
        assert "not distinguishable" in gates[lesser.contender.name][0].detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("da2k", "not a rule"),
        ("da2k=>-0.5pp vs float", "not a rule"),
        ("da2k>=-0.5pp", "pp is a difference"),
        ("da2k>=95% surely", "needs"),
    ],
)
def test_rules_that_are_none_are_refused_with_the_grammar(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_rule(text)


def test_a_rule_that_names_nobody_or_no_figure_is_refused(three: list[judging.Scored]) -> None:
    with pytest.raises(UsageError, match="no model named 'float'"):
        compare_all(three, [parse_rule("da2k>=0pp vs float")])
    with pytest.raises(UsageError, match="no figure 'abs_rel'"):
        compare_all(three, [parse_rule("abs_rel<=0.1")])


def test_ci_gets_junit_and_markdown_with_every_denominator(three: list[judging.Scored], tmp_path: Path) -> None:
    items = compare_all(three, [parse_rule("da2k>=-0.5pp vs good")])
    models = told(items)
    root = ElementTree.fromstring(junit("da2k", items[0].result.protocol, models))
    suites = root.findall("testsuite")
    assert [s.get("failures") for s in suites] == ["0", suites[1].get("failures"), "1"]
    failure = suites[2].find("testcase/failure")
    assert failure is not None and "worse than good" in (failure.get("message") or "")
    assert "pairs on 100 images" in (suites[0].findtext("system-out") or "")
    text = markdown("da2k", items[0].result.protocol, models)
    assert "❌ failed" in text and "pairs on 100 images" in text and "Protocol: maps computed elsewhere" in text
    keep(tmp_path / "kept.json", items, TaskRequest(bench="da2k"), None)
    kept = read_judged(tmp_path / "kept.json")
    assert [r.result for r in kept.rows] == [i.result for i in items]


# ------------------------------------------------------------------------------------------------ the command


def line(monkeypatch: pytest.MonkeyPatch, place: Path, *words: str) -> int:
    from datk.cli.main import app

    monkeypatch.chdir(place)
    try:
        app(list(words), standalone_mode=False)
    except GateFailed:
        return 3
    return 0


def test_the_command_judges_several_prints_protocol_and_gates_with_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = da2k(tmp_path / "set", 20)
    good, bad = maps(tmp_path / "good", root, 1.0), maps(tmp_path / "bad", root, 0.3)
    words = ("validate", good, bad, "--bench", "da2k", "--data", str(root))
    gate = "da2k>=-0.5pp vs good"
    code = line(monkeypatch, tmp_path, *words, "--gate", gate, "--junit", "j.xml", "--markdown", "m.md")
    out = capsys.readouterr().out
    assert (
        code == 3 and "protocol: maps computed elsewhere" in out and "worse than" in out and "pairs on 20 images" in out
    )
    assert (tmp_path / "j.xml").is_file() and "❌" in (tmp_path / "m.md").read_text()
    assert line(monkeypatch, tmp_path, *words, "--json") == 0
    told_json = json.loads(capsys.readouterr().out)
    assert [t["kept_from_before"] for t in told_json] == [20, 20]
    assert told_json[1]["versus"]["words"].startswith("worse")


_WORKER = """
import json, sys, time
from pathlib import Path
from datk.evaluate.benchmarks.task import TaskRequest, open_task
from datk.pipeline.judging import Contender, judge

if __name__ == "__main__":
    request = TaskRequest(bench="da2k", data=Path(sys.argv[1]))
    begun = time.monotonic()
    contender = Contender(name="m", spec=sys.argv[2])
    scored = judge(contender, request, open_task(request), cache=Path(sys.argv[3]), jobs=int(sys.argv[4]))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"seconds": time.monotonic() - begun, "peak_kib": int(status["VmHWM"].split()[0]),
                      "kept": scored.n_kept, "result": scored.result.model_dump(mode="json")}))
"""


@pytest.mark.parametrize("kind", ["hf", "marigold"])
def test_models_of_others_are_judged_beside_maps_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Tiny nets of random weights, saved as their makers save them."""
    pytest.importorskip("diffusers" if kind == "marigold" else "transformers", reason=f"no library for {kind}: models")
    from tests.unit.models.outside import nets

    folder = (nets.marigold if kind == "marigold" else nets.depth_anything)(tmp_path / "net")
    root = da2k(tmp_path / "set", 3)
    good = maps(tmp_path / "good", root, 1.0)
    words = ("validate", good, f"{kind}:{folder}", "--bench", "da2k", "--data", str(root), "--json")
    assert line(monkeypatch, tmp_path, *words) == 0
    first, net = json.loads(capsys.readouterr().out)
    assert first["result"]["overall"]["accuracy"] == 1
    assert net["result"]["n_images"] == 3 and net["result"]["overall"]["n"] == first["result"]["overall"]["n"]
    affine_depth = "depth_affine_invariant" if kind == "marigold" else "disparity_affine_invariant"
    assert net["result"]["depth_kind"] == affine_depth
    assert net["versus"]["reference"] == first["name"]
    assert line(monkeypatch, tmp_path, *words) == 0
    again = json.loads(capsys.readouterr().out)
    assert [t["kept_from_before"] for t in again] == [3, 3] and again[1]["result"] == net["result"]


PROC = Path("/proc")


def children_of(pid: int) -> list[int]:
    """Process numbers; none where the system does not list them (macOS)."""
    listed = PROC / str(pid) / "task" / str(pid) / "children"
    return [int(number) for number in listed.read_text().split()] if listed.is_file() else []


@pytest.mark.slow
def test_a_thousand_large_photographs_cost_minutes_not_memory_and_survive_a_kill(tmp_path: Path) -> None:
    """Everything but the net: 1,000 photographs of 1500x2000 with two pairs each, maps of a bucket's size.

    The files are 12 pictures under 1,000 names; every name is decoded, hashed and scored. Each run is a process of its
    own, so that its peak memory is its own.
    """
    rng = np.random.default_rng(0)
    script = tmp_path / "worker.py"
    script.write_text(_WORKER + "\n")
    (tmp_path / "m").mkdir()
    originals = tmp_path / "originals"
    originals.mkdir()
    for number in range(12):
        noise = cv2.resize(rng.integers(0, 255, (150, 200, 3), np.uint8), (2000, 1500))
        cv2.imwrite(str(originals / f"{number}.jpg"), noise)
    sets = {count: tmp_path / f"set-{count}" for count in (100, 1000)}
    for count, root in sets.items():
        annotations: dict[str, Any] = {}
        (root / "images" / "indoor").mkdir(parents=True)
        for number in range(count):
            key = f"images/indoor/{number:04d}.jpg"
            os.link(originals / f"{number % 12}.jpg", root / key)
            np.save(tmp_path / "m" / f"{number:04d}.npy", rng.random((518, 686), dtype=np.float32))
            points = rng.integers(0, 1500, (2, 2, 2)).tolist()
            annotations[key] = [{"point1": a, "point2": b, "closer_point": "point1"} for a, b in points]
        (root / "annotations.json").write_text(json.dumps(annotations))
    spec = f"preds:{tmp_path / 'm'},quantity=disparity,larger_is=nearer"

    def words(count: int, answers: str, jobs: int = 1) -> list[str]:
        return [sys.executable, str(script), str(sets[count]), spec, str(tmp_path / answers), str(jobs)]

    environment = {**os.environ, "PYTHONPATH": str(Path("toolkit").resolve())}

    def run(count: int, answers: str, jobs: int = 1) -> dict[str, Any]:
        done = subprocess.run(words(count, answers, jobs), env=environment, check=True, capture_output=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        print(f"{count} photographs, {jobs} processes:", {k: v for k, v in found.items() if k != "result"})
        return found

    few, many = run(100, "few"), run(1000, "many")
    assert many["seconds"] < 180
    assert many["peak_kib"] - few["peak_kib"] < 30_000

    child = subprocess.Popen(words(1000, "killed", 2), env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if sum(f.read_bytes().count(b"\n") for f in (tmp_path / "killed").glob("*")) > 400:
            break
        time.sleep(0.1)
    workers = children_of(child.pid)
    assert len(workers) >= 2 or not PROC.is_dir()
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    resumed = run(1000, "killed", 2)
    assert not [pid for pid in workers if (PROC / str(pid)).exists()], "workers outlived the one that was killed"
    assert 300 < resumed["kept"] < 1000
    assert resumed["result"] == many["result"]


# ------------------------------------------------------------------------------------------------ the page of a record


def test_the_page_draws_lost_pairs_and_marks_what_is_quoted(tmp_path: Path, three: list[judging.Scored]) -> None:
    from datk.report.judged_page import MEASURED, QUOTED, write_judged_page

    root = da2k(tmp_path / "set", 100)
    keep(tmp_path / "new.json", compare_all(three, []), TaskRequest(bench="da2k", data=root), None)
    page = write_judged_page(tmp_path / "new.json", tmp_path / "new.html")
    text = (tmp_path / "new.html").read_text()
    assert [line.source for line in page.lines[:4]] == [MEASURED] * 3 + [QUOTED]
    assert {line.model for line in page.lines if line.source == QUOTED} >= {"V2 Small", "V2 Giant", "GeoWizard"}
    assert "95.3" in text and QUOTED in text
    assert page.drawn and all(d.uri.startswith("data:image/jpeg") for d in page.drawn)
    assert [s.scene for s in page.scenes] == ["indoor", "aerial"]
    assert {mark for row in page.scenes for _, mark in row.cells} == {"", "worse"}
    for outside in ('src="http', 'href="http', "url(http", "<script"):
        assert outside not in text


def test_two_records_are_compared_model_by_model(tmp_path: Path, three: list[judging.Scored]) -> None:
    from datk.report.judged_page import write_judged_page

    good, alike, bad = compare_all(three, [])
    keep(tmp_path / "old.json", [good, bad], TaskRequest(bench="da2k", data=tmp_path / "gone"), None)
    renamed = [
        type(good)(
            scored=judging.Scored(
                contender=Contender(name=name, spec="x"),
                who=item.scored.who,
                result=item.result,
                n_images=1,
                n_kept=0,
            ),
            difference=item.difference,
            gates=(),
        )
        for name, item in (("bad", good), ("good", good), ("fresh", alike))
    ]
    keep(tmp_path / "new.json", renamed, TaskRequest(bench="da2k", data=tmp_path / "gone"), None)
    page = write_judged_page(tmp_path / "new.json", tmp_path / "new.html", before=tmp_path / "old.json")
    assert {model: status for model, status, _ in page.changes} == {"bad": "better", "good": "same", "fresh": "new"}
    assert not page.drawn and page.not_drawn


# ------------------------------------------------------------------------------------------------ dense benchmarks


def rgbd(root: Path, scenes: tuple[str, ...] = ("kitchen", "street"), count: int = 12) -> tuple[Path, np.ndarray]:
    """A set of measured depth, `count` photographs in each scene, and its (40, 60) depth."""
    depth = np.linspace(1, 9, 40 * 60).reshape(40, 60).astype(np.float32)
    for folder, ending in (("images", ".png"), ("depth", ".npy")):
        for scene in scenes:
            (root / folder / scene).mkdir(parents=True)
            for k in range(count):
                path = root / folder / scene / f"{k:02d}{ending}"
                if ending == ".npy":
                    np.save(path, depth)
                else:
                    cv2.imwrite(str(path), np.full((*depth.shape, 3), 10 * k, np.uint8))
    (root / "rgbd.json").write_text(json.dumps({"quantity": "depth", "unit": 1.0}))
    return root, depth


def dense_maps(folder: Path, depth: np.ndarray, bad_scene: str = "", count: int = 12) -> str:
    """Metric maps with 1 % of noise; those of one scene are 40 % too far in a known corner."""
    rng = np.random.default_rng(len(bad_scene))
    for scene in ("kitchen", "street"):
        for k in range(count):
            values = depth * rng.normal(1, 0.01, depth.shape)
            if scene == bad_scene:
                values[:20, :20] *= 1.4 + 0.01 * k
            path = folder / "images" / scene / f"{k:02d}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values.astype(np.float32))
    return f"preds:{folder},quantity=metric_depth,larger_is=farther,unit=1"


def picture(uri: str) -> np.ndarray:
    import base64

    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(uri), np.uint8), cv2.IMREAD_COLOR))


def test_the_page_of_a_dense_benchmark_names_the_lost_scene_and_shows_where_the_error_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, depth = rgbd(tmp_path / "set")
    good, bad = dense_maps(tmp_path / "good", depth), dense_maps(tmp_path / "bad", depth, "street")
    words = ("validate", good, bad, "--bench", "rgbd", "--data", str(root), "--keep", "r.json")
    assert line(monkeypatch, tmp_path, *words) == 0
    assert line(monkeypatch, tmp_path, "report", "r.json") == 0
    from datk.report.judged_page import judged_page

    page = judged_page(read_judged(tmp_path / "r.json"))
    marks = {row.scene: row.cells[1][1] for row in page.scenes}
    assert marks == {"kitchen": "", "street": "worse"}
    assert {row.n for row in page.scenes} == {12}
    assert len(page.error_maps) == 6 and all("/street/" in item.image for item in page.error_maps)
    assert page.error_maps[0].image == "images/street/11.png"
    captions = [p.caption.partition(",")[0] for p in page.error_maps[0].pictures]
    assert captions == ["photograph", "truth", "good", "good: error", "bad", "bad: error"]
    error = picture(page.error_maps[0].pictures[5].jpeg).astype(int).sum(axis=2)
    assert error[2:18, 2:18].mean() > 2 * error[22:, 22:].mean()
    html = next(tmp_path.glob("*.html")).read_text()
    assert "Where the error is" in html and html.count("<img") == 36
    capsys.readouterr()


def test_one_dense_model_alone_shows_its_own_worst_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, depth = rgbd(tmp_path / "set", count=3)
    bad = dense_maps(tmp_path / "bad", depth, "street", count=3)
    assert line(monkeypatch, tmp_path, "validate", bad, "--bench", "rgbd", "--data", str(root), "--keep", "r.json") == 0
    judged = read_judged(tmp_path / "r.json")
    assert [m.image for m in judged.error_maps][:3] == [f"images/street/{k:02d}.png" for k in (2, 1, 0)]
    assert len(judged.error_maps[0].pictures) == 4
    figures = judged.rows[0].dense
    assert figures is not None
    shown = float(judged.error_maps[0].pictures[3].caption.rpartition(" mean ")[2].rstrip(" %"))
    assert shown == pytest.approx(100 * figures.images["images/street/02.png"]["aligned"]["abs_rel"], abs=0.051)
