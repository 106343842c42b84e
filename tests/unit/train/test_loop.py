"""The loop: bit-exact resume, honest stops, budgets that hold across a restart."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datk.config.train_sections import LossSection, ScheduleSection, TeacherSection
from datk.errors import CheckpointError, EnvironmentLacks, UsageError
from datk.train import loop
from datk.train.checkpoint import FACTS, FOLDER
from datk.train.loop import FitResult, StepLoss, TrainingError, fit
from datk.train.precision import has_native_bf16
from datk.train.samples import Batch
from datk.train.start import fingerprint
from datk.train.trace import read_log
from tests.unit.train import micro
from tests.unit.train.toys import ToyNet, toy_batches, toy_step

SCHEDULE = ScheduleSection(
    steps=12,
    batch_size=4,
    encoder_lr=1e-2,
    decoder_lr=1e-2,
    warmup=0.2,
    decay="cosine",
    device="cpu",
    precision="fp32",
    ema_decay=0.9,
)


def _fit(net: ToyNet, folder: Path, section: ScheduleSection = SCHEDULE, **options: int) -> FitResult:
    return fit(net, toy_step(net), toy_batches(), section, folder, fingerprint="toy", **options)


def _bits(net: ToyNet) -> list[bytes]:
    return [value.numpy().tobytes() for value in net.state_dict().values()]


def test_resume_equals_uninterrupted_run(tmp_path: Path) -> None:
    whole, halves = ToyNet(), ToyNet()
    _fit(whole, tmp_path / "whole")
    assert _fit(halves, tmp_path / "halves", stop_after=5).steps == 5
    restarted = ToyNet(seed=99)  # a new process would not have the weights either
    result = _fit(restarted, tmp_path / "halves")
    assert result.resumed_from == 5 and result.steps == 12
    assert _bits(restarted) == _bits(whole)
    assert (tmp_path / "halves/loss.csv").read_bytes() == (tmp_path / "whole/loss.csv").read_bytes()


def test_an_interrupt_saves_and_is_raised_again(tmp_path: Path) -> None:
    whole, broken = ToyNet(), ToyNet()
    _fit(whole, tmp_path / "whole")

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(broken, toy_step(broken), toy_batches(), SCHEDULE, tmp_path / "b", fingerprint="toy", progress=interrupt)
    again = ToyNet(seed=3)
    assert _fit(again, tmp_path / "b").resumed_from == 7
    assert _bits(again) == _bits(whole)


def test_loader_threads_do_not_change_the_result(tmp_path: Path) -> None:
    one, many = ToyNet(), ToyNet()
    _fit(one, tmp_path / "one")
    _fit(many, tmp_path / "many", SCHEDULE.model_copy(update={"loader_threads": 3}))
    assert _bits(one) == _bits(many)


def test_the_net_learns(tmp_path: Path) -> None:
    net = ToyNet()
    _fit(net, tmp_path, SCHEDULE.model_copy(update={"steps": 60}))
    with (tmp_path / "loss.csv").open() as handle:
        losses = [float(row["loss"]) for row in csv.DictReader(handle)]
    assert len(losses) == 60
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_a_non_finite_loss_stops_with_the_step(tmp_path: Path) -> None:
    net = ToyNet()
    inner = toy_step(net)

    def poisoned(batch: Batch, done: float) -> StepLoss:
        loss = inner(batch, done)
        return StepLoss(loss.total * float("nan"), loss.parts, loss.output) if done >= 0.5 else loss

    with pytest.raises(TrainingError, match="step 6: the loss is nan"):
        fit(net, poisoned, toy_batches(), SCHEDULE, tmp_path, fingerprint="toy")


def test_a_collapsed_net_stops_with_advice(tmp_path: Path) -> None:
    net = ToyNet()
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.constant_(net.head.bias, -1.0)  # behind the final ReLU: dead, no gradient
    section = SCHEDULE.model_copy(update={"steps": 200, "collapse_window": 10})
    with pytest.raises(TrainingError, match="constant for 10 steps") as caught:
        fit(net, toy_step(net, LossSection()), toy_batches(), section, tmp_path, fingerprint="toy")
    assert "output: raw" in (caught.value.hint or "")


def test_a_budget_fits_the_steps_and_a_resumed_run_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = iter((20, 30))  # a busy machine would fit too few; another answer on resuming must not matter
    monkeypatch.setattr(loop, "steps_for_budget", lambda *_, **__: next(fitted))
    section = SCHEDULE.model_copy(update={"budget_s": 0.5})
    first, fresh = ToyNet(), ToyNet()
    paused = _fit(first, tmp_path / "a", section, stop_after=3)
    assert paused.budget is not None and paused.budget["steps"] == 20
    resumed = _fit(ToyNet(), tmp_path / "a", section)
    assert resumed.budget == paused.budget and resumed.steps == paused.budget["steps"]
    plain = SCHEDULE.model_copy(update={"steps": int(paused.budget["steps"])})
    _fit(fresh, tmp_path / "b", plain, stop_after=3)
    assert _bits(first) == _bits(fresh), "measuring the step time must leave no trace in the weights"


def test_a_budget_too_small_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a budget of 0 s allows 0 steps"):
        _fit(ToyNet(), tmp_path, SCHEDULE.model_copy(update={"budget_s": 1e-4}))


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    net = ToyNet()
    _fit(net, tmp_path, stop_after=2)
    with pytest.raises(CheckpointError, match="other settings or other data"):
        fit(net, toy_step(net), toy_batches(), SCHEDULE, tmp_path, fingerprint="another")


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "no facts", "torn facts"])
def test_a_damaged_state_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    _fit(ToyNet(), tmp_path, stop_after=2)
    (state,) = (tmp_path / FOLDER).iterdir()
    tensors = next(state.glob("*.safetensors"))
    if damage in ("cut", "empty"):
        tensors.write_bytes(tensors.read_bytes()[:-9] if damage == "cut" else b"")
    elif damage == "gone":
        tensors.unlink()
    elif damage == "no facts":
        (state / FACTS).unlink()
    else:
        (state / FACTS).write_text('{"step": 2, "finger')
    with pytest.raises(CheckpointError, match="damaged training state"):
        _fit(ToyNet(), tmp_path)


def test_bf16_is_refused_where_it_is_emulated(tmp_path: Path) -> None:
    section = SCHEDULE.model_copy(update={"precision": "bf16"})
    if has_native_bf16(torch.device("cpu")):
        assert _fit(ToyNet(), tmp_path, section).precision == "bf16"
    else:
        with pytest.raises(EnvironmentLacks, match="no native bfloat16"):
            _fit(ToyNet(), tmp_path, section)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA GPU is present: the refusal cannot be seen")
def test_a_missing_gpu_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="no CUDA GPU"):
        _fit(ToyNet(), tmp_path, SCHEDULE.model_copy(update={"device": "cuda"}))


@pytest.mark.parametrize(("micro_batch", "recompute"), [(1, False), (4, False), (None, True)])
def test_micro_batches_and_recomputation_give_the_gradient_of_the_whole(
    tmp_path: Path, micro_batch: int | None, recompute: bool
) -> None:
    """Masks of every size, one empty: each image counts alike, however the batch is cut. Float32 sums, so to 1e-5."""
    options = {"micro_batch": micro_batch, "activation_checkpointing": recompute}
    moments = []
    for name, schedule in (("whole", {}), ("parts", options)):
        micro.run_job({"folder": tmp_path / name, "schedule": schedule, "stop_after": 1})
        (file,) = (tmp_path / name).glob("state/step-*/*.safetensors")
        moments.append({k: v for k, v in load_file(file).items() if k.endswith(":exp_avg")})
    scale = max(float(value.abs().max()) for value in moments[0].values())
    assert max(float((moments[0][k] - moments[1][k]).abs().max()) for k in moments[0]) <= 1e-5 * scale


def test_sigterm_saves_after_the_step_and_ends_as_an_interrupt(tmp_path: Path) -> None:
    def warn(done: int, total: int) -> None:
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    net = ToyNet()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        fit(net, toy_step(net), toy_batches(), SCHEDULE, tmp_path, fingerprint="toy", progress=warn)
    assert signal.getsignal(signal.SIGTERM) is before
    resumed, whole = ToyNet(), ToyNet()
    assert _fit(resumed, tmp_path).resumed_from == 5, "the step under way is finished, its result kept"
    _fit(whole, tmp_path / "whole")
    assert _bits(resumed) == _bits(whole)


def test_operational_settings_may_change_in_the_middle_and_nothing_else(tmp_path: Path) -> None:
    teacher = TeacherSection()
    other = teacher.schedule.model_copy(update={"micro_batch": 2, "sharding": "fsdp", "loader_threads": 9})
    assert fingerprint(teacher, seed=0) == fingerprint(teacher.model_copy(update={"schedule": other}), seed=0)
    longer = teacher.schedule.model_copy(update={"batch_size": 32})
    assert fingerprint(teacher, seed=0) != fingerprint(teacher.model_copy(update={"schedule": longer}), seed=0)


@pytest.mark.slow
def test_compiled_blocks_compute_the_same(tmp_path: Path) -> None:
    """Inductor's kernels round otherwise: losses of six steps agree to 1e-3."""
    found = []
    for name, compiled in (("eager", False), ("compiled", True)):
        micro.run_job({"folder": tmp_path / name, "schedule": {"compile": compiled}})
        found.append([row["loss"] for row in read_log(tmp_path / name / "loss.csv")])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
