"""The executor: skip what is built, resume what was interrupted, never leave half a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.artifact.manifest import read_manifest
from datk.errors import DataError, TargetError, UsageError
from datk.pipeline.execute import Selection, execute, plan_stages
from datk.pipeline.stage import Outcome, Stage, StageRun


class Quiet:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def stage(self, name: str, title: str, state: str) -> None:
        self.lines.append((name, state))

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        pass

    @property
    def ran(self) -> list[str]:
        return [name for name, state in self.lines if state == "done"]


def write(text: str):
    def run(stage: StageRun) -> Outcome:
        (stage.out / "out.txt").write_text(text)
        return Outcome(facts={"text": text})

    return run


def route(first: str = "a", second: str = "b", third: str = "c") -> list[Stage]:
    return [
        Stage(name="10-one", verb="one", title="one", run=write(first), section={"text": first}),
        Stage(name="20-two", verb="two", title="two", run=write(second), section={"text": second}, needs=("10-one",)),
        Stage(
            name="30-three", verb="three", title="three", run=write(third), section={"text": third}, needs=("20-two",)
        ),
    ]


def go(stages: list[Stage], run_dir: Path, selection: Selection | None = None, seed: int = 0) -> list[str]:
    quiet = Quiet()
    execute(stages, run_dir, selection or Selection(), seed=seed, recipe_text="name: toy\n", reporter=quiet)
    return quiet.ran


def test_second_run_skips_everything(tmp_path: Path) -> None:
    assert go(route(), tmp_path) == ["10-one", "20-two", "30-three"]
    assert go(route(), tmp_path) == []


def test_changed_section_reruns_that_stage_and_those_whose_inputs_changed(tmp_path: Path) -> None:
    go(route(), tmp_path)
    assert go(route(second="B"), tmp_path) == ["20-two", "30-three"]


def test_a_rerun_stage_with_the_same_result_spares_those_after_it(tmp_path: Path) -> None:
    go(route(), tmp_path)
    stages = route()
    stages[0] = Stage(
        name="10-one", verb="one", title="one", run=write("a"), section={"text": "other words, same bytes"}
    )
    assert go(stages, tmp_path) == ["10-one"]


def test_a_file_changed_on_disk_is_noticed_and_rebuilt(tmp_path: Path) -> None:
    go(route(), tmp_path)
    (tmp_path / "20-two" / "out.txt").write_text("tampered")
    assert go(route(), tmp_path) == ["20-two"]
    assert (tmp_path / "20-two" / "out.txt").read_text() == "b"


def test_force_from_and_until_select(tmp_path: Path) -> None:
    go(route(), tmp_path)
    assert go(route(), tmp_path, Selection("two", "two", force=True)) == ["20-two"]
    assert go(route(), tmp_path, Selection(force=True)) == ["10-one", "20-two", "30-three"]


def test_from_needs_what_lies_before_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not built yet"):
        go(route(), tmp_path, Selection(first="two"))


def test_unknown_stage_names_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        plan_stages(route(), tmp_path, Selection(first="tow"), seed=0)
    assert "one, two, three" in (caught.value.hint or "")


def test_dry_run_says_hit_and_miss_and_writes_nothing(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert [p.state for p in plan_stages(route(), run_dir, Selection(), seed=0)] == ["run", "run", "run"]
    assert not run_dir.exists()


def test_interrupted_stage_leaves_no_output_and_resumes_in_its_own_folder(tmp_path: Path) -> None:
    seen: list[int] = []

    def counts_to_three(stage: StageRun) -> Outcome:
        done = stage.out / "steps"
        start = int(done.read_text()) if done.exists() else 0
        for step in range(start, 3):
            seen.append(step)
            done.write_text(str(step + 1))
            if step == 1 and start == 0:
                raise KeyboardInterrupt
        return Outcome()

    stages = [Stage(name="10-slow", verb="slow", title="slow", run=counts_to_three, section={})]
    with pytest.raises(KeyboardInterrupt):
        go(stages, tmp_path)
    assert not (tmp_path / "10-slow").exists()
    assert go(stages, tmp_path) == ["10-slow"]
    assert seen == [0, 1, 2]


def test_interrupted_work_of_another_recipe_is_not_resumed(tmp_path: Path) -> None:
    def dies(stage: StageRun) -> Outcome:
        (stage.out / "half").write_text("from the old recipe")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go([Stage(name="10-one", verb="one", title="one", run=dies, section={"lr": 1})], tmp_path)
    go([Stage(name="10-one", verb="one", title="one", run=write("x"), section={"lr": 2})], tmp_path)
    assert not (tmp_path / "10-one" / "half").exists()


def test_failed_rebuild_keeps_the_old_output(tmp_path: Path) -> None:
    go(route(), tmp_path)

    def fails(stage: StageRun) -> Outcome:
        raise DataError("no")

    stages = route()
    stages[0] = Stage(name="10-one", verb="one", title="one", run=fails, section={"text": "new"})
    with pytest.raises(DataError):
        go(stages, tmp_path)
    assert (tmp_path / "10-one" / "out.txt").read_text() == "a"


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    def nested(stage: StageRun) -> Outcome:
        with pytest.raises(UsageError, match="another datk"):
            go(route(), tmp_path)
        return Outcome()

    go([Stage(name="10-one", verb="one", title="one", run=nested, section={})], tmp_path)


def test_manifest_records_inputs_outputs_and_host(tmp_path: Path) -> None:
    go(route(), tmp_path)
    manifest = read_manifest(tmp_path / "20-two")
    assert [i.role for i in manifest.inputs] == ["10-one"]
    assert [o.path for o in manifest.outputs] == ["out.txt"]
    assert manifest.outputs[0].bytes == 1
    assert manifest.host["cores"]
    assert manifest.recipe_sha256


def test_read_only_run_folder_is_a_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(UsageError, match="cannot be written"):
        go(route(), blocked / "run")


def test_changed_seed_reruns(tmp_path: Path) -> None:
    stages = [Stage(name="10-one", verb="one", title="one", run=write("a"), section={})]
    go(stages, tmp_path)
    assert go(stages, tmp_path, seed=1) == ["10-one"]


def test_a_log_that_differs_spares_the_stages_after_it(tmp_path: Path) -> None:
    def logs(text: str):
        def run(stage: StageRun) -> Outcome:
            (stage.out / "weights.txt").write_text("same")
            (stage.out / "loss.csv").write_text(text)
            return Outcome()

        return run

    def two(text: str) -> list[Stage]:
        after = Stage(name="20-two", verb="two", title="two", run=write("b"), section={}, needs=("10-one",))
        return [Stage(name="10-one", verb="one", title="one", run=logs(text), section={"n": text}), after]

    go(two("1.0 s"), tmp_path)
    assert go(two("1.1 s"), tmp_path) == ["10-one"]


def test_a_stage_another_run_has_built_is_copied_not_run(tmp_path: Path) -> None:
    go(route(), tmp_path / "runs" / "first")
    assert go(route(third="other"), tmp_path / "runs" / "second") == ["30-three"]
    assert (tmp_path / "runs" / "second" / "10-one" / "out.txt").read_text() == "a"
    assert read_manifest(tmp_path / "runs" / "second" / "20-two").key


def test_a_damaged_stage_of_another_run_is_not_copied(tmp_path: Path) -> None:
    go(route(), tmp_path / "runs" / "first")
    (tmp_path / "runs" / "first" / "10-one" / "out.txt").write_text("tampered")
    assert "10-one" in go(route(), tmp_path / "runs" / "second")
    assert (tmp_path / "runs" / "second" / "10-one" / "out.txt").read_text() == "a"


def test_force_copies_nothing(tmp_path: Path) -> None:
    go(route(), tmp_path / "runs" / "first")
    assert len(go(route(), tmp_path / "runs" / "second", Selection(force=True))) == 3


def test_a_run_folder_outside_runs_borrows_from_nobody(tmp_path: Path) -> None:
    go(route(), tmp_path / "elsewhere" / "first")
    assert len(go(route(), tmp_path / "elsewhere" / "second")) == 3


def refuse(stage: StageRun) -> Outcome:
    raise TargetError("the compiler refused op Foo")


def three_targets(first_runs: bool) -> list[Stage]:
    """Two artifacts of one student; the first one's compiler refuses unless told otherwise."""
    compiler = write("compiled") if first_runs else refuse
    return [
        Stage(name="30-student", verb="student", title="", run=write("net"), section={}),
        Stage(name="50-export-a", verb="export", title="", run=compiler, section={}, needs=("30-student",)),
        Stage(name="60-validate-a", verb="validate", title="", run=write("a"), section={}, needs=("50-export-a",)),
        Stage(name="50-export-b", verb="export", title="", run=write("b"), section={}, needs=("30-student",)),
    ]


def test_a_target_that_refuses_does_not_keep_the_others_from_theirs(tmp_path: Path) -> None:
    quiet = Quiet()
    done = execute(three_targets(False), tmp_path, Selection(), seed=0, recipe_text="name: toy\n", reporter=quiet)
    assert done.failures == {
        "50-export-a": "the compiler refused op Foo",
        "60-validate-a": "not run: 50-export-a failed",
    }
    assert quiet.ran == ["30-student", "50-export-b"]
    assert not (tmp_path / "50-export-a").exists()


def test_the_failed_stage_is_tried_again_and_its_failure_forgotten(tmp_path: Path) -> None:
    go(three_targets(False), tmp_path)
    assert list(tmp_path.glob(".*.part/failed.json"))
    assert go(three_targets(True), tmp_path) == ["50-export-a", "60-validate-a"]
    assert not list(tmp_path.glob(".*.part"))


def say_no(stage: StageRun) -> Outcome:
    raise TargetError("the compiler said no")


def gathered(*names: str, refused: tuple[str, ...] = ()) -> list[Stage]:
    """Some stages, and one that gathers what is left of them."""
    made = [
        Stage(name=n, verb="make", title=n, run=say_no if n in refused else write(n), section={"text": n})
        for n in names
    ]

    def gather(stage: StageRun) -> Outcome:
        return Outcome(facts={"of": sorted(stage.needs)})

    last = Stage(name="90-all", verb="all", title="all", run=gather, section={}, needs=names, any_of=names)
    return [*made, last]


def test_a_stage_that_takes_any_of_its_needs_runs_with_those_that_did_not_fail_and_is_kept(tmp_path: Path) -> None:
    stages = gathered("10-a", "10-b", refused=("10-a",))
    assert go(stages, tmp_path) == ["10-b", "90-all"]
    assert read_manifest(tmp_path / "90-all").facts["of"] == ["10-b"]
    assert go(stages, tmp_path) == [], "nothing is new: the one that failed fails again"
    assert go(gathered("10-a", "10-b"), tmp_path) == ["10-a", "90-all"]
    assert read_manifest(tmp_path / "90-all").facts["of"] == ["10-a", "10-b"]


def test_it_does_not_run_when_every_one_of_them_failed(tmp_path: Path) -> None:
    assert go(gathered("10-a", "10-b", refused=("10-a", "10-b")), tmp_path) == []
