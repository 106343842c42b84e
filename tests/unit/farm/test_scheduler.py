"""Queue and leases: nothing lost, nothing run twice into the records, whatever happens to hosts and clocks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from datk.farm.clock import Clock, Owner
from datk.farm.inventory import Device, Limits, Simulation
from datk.farm.job import Job
from datk.farm.scheduler import Pace, drain
from datk.farm.store import LEASE_S, Claim, Store, Wait

from .conftest import make_job

FAST = Pace(renew_s=0.02, backoff_s=0.01, busy_s=0.01, poll_s=0.02)


class Watch(Clock):
    """A clock that jumps when told."""

    def __init__(self) -> None:
        self.shift = 0.0
        self.passed = 0.0

    def wall(self) -> float:
        return time.time() + self.shift

    def mono(self) -> float:
        return time.monotonic() + self.passed


def device(name: str = "sim", *fail: str, job_s: float = 0.0, attempts: int = 3) -> Device:
    return Device(
        name=name,
        kind="simulated",
        simulated=Simulation(fail=fail, job_s=job_s),
        limits=Limits(attempts=attempts),
    )


def again(job: Job, **changes: object) -> Job:
    """A new job of the same fields but for the changes."""
    return Job.model_validate({name: getattr(job, name) for name in Job.model_fields} | changes)


def drained(store: Store, jobs: Sequence[Job], pace: Pace = FAST) -> tuple[list[int], dict[str, str]]:
    ids = store.add(jobs)
    return ids, asyncio.run(drain(store, ids, {j.device.name: j.device for j in jobs}, pace=pace))


def claimed(store: Store, name: str, ids: Sequence[int]) -> Claim:
    found = store.claim(name, ids)
    assert isinstance(found, Claim)
    return found


def test_a_job_done_once_is_not_run_again(tmp_path: Path) -> None:
    store, sim = Store(tmp_path / "farm"), device()
    ids, _ = drained(store, [make_job(tmp_path, sim)])
    first = store.rows(ids)[0]
    again, _ = drained(store, [make_job(tmp_path, sim)])
    assert again == ids and store.rows(ids)[0] == first and first.state == "done" and first.attempts == 1
    assert (store.results / first.folder / "result.json").is_file()
    forced, _ = drained(store, [make_job(tmp_path, sim, salt="once more")])
    assert forced != ids


def test_the_key_depends_on_all_that_changes_an_answer_and_on_nothing_else(tmp_path: Path) -> None:
    job = make_job(tmp_path, device())
    assert Job.model_validate_json(job.model_dump_json()).key == job.key
    other_limits = job.model_copy(update={"device": device(attempts=9)})
    assert again(other_limits).key == job.key
    for change in (
        {"runtime": "litert"},
        {"device": device("other")},
        {"device": device().model_copy(update={"threads": 3})},
        {"timing": job.timing.model_copy(update={"rounds": 9})},
        {"inputs": job.inputs.model_copy(update={"sha256": "0" * 64})},
        {"parts": (job.candidate.model_copy(update={"sha256": "0" * 64}),)},
    ):
        assert again(job, **change).key != job.key, change


@pytest.mark.parametrize(
    ("faults", "attempts"),
    [(("connection",), 2), (("crash", "corrupt"), 3), (("busy", "busy", "busy", "busy"), 1), (("hang", "busy"), 2)],
)
def test_passing_trouble_is_retried_and_a_busy_device_costs_no_attempt(
    tmp_path: Path, faults: tuple[str, ...], attempts: int
) -> None:
    store = Store(tmp_path / "farm")
    ids, waiting = drained(store, [make_job(tmp_path, device("sim-" + "-".join(faults), *faults))])
    row = store.rows(ids)[0]
    assert (row.state, row.attempts, waiting) == ("done", attempts, {})
    assert any("again in" in text for _, text in store.events(row.id))


def test_a_device_that_stays_unreachable_is_set_aside_and_its_other_jobs_wait(tmp_path: Path) -> None:
    watch = Watch()
    store, sim = Store(tmp_path / "farm", clock=watch), device("gone", *["connection"] * 3)
    good = device("good")
    jobs = [make_job(tmp_path, sim), make_job(tmp_path, sim, salt="2"), make_job(tmp_path, good)]
    ids, waiting = drained(store, jobs)
    states = [r.state for r in store.rows(ids)]  # which of its jobs spends the tries is a matter of jittered delays
    assert sorted(states[:2]) == ["failed", "queued"] and states[2] == "done"
    left = states.index("queued")
    assert "simulated connection" in waiting["gone"]
    assert [q.device for q in store.quarantined()] == ["gone"]
    watch.shift += 3700  # it comes back by itself when its time is over
    assert store.quarantined() == []
    drained(store, jobs[left : left + 1])
    assert store.rows(ids)[left].state in ("done", "failed")


def test_a_crashing_artifact_fails_alone_and_its_device_goes_on(tmp_path: Path) -> None:
    store, sim = Store(tmp_path / "farm"), device("crashy", *["crash"] * 3)
    ids, _ = drained(store, [make_job(tmp_path, sim)])
    assert store.rows(ids)[0].state == "failed" and "simulated crash" in store.rows(ids)[0].error
    assert store.quarantined() == []
    drained(store, [make_job(tmp_path, sim)])  # a failed job is queued again when asked for again
    assert store.rows(ids)[0].state == "done"


def test_devices_work_beside_each_other_and_each_does_one_job_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datk.farm.adapters.simulated import SimulatedSession

    now: dict[str, int] = {}
    most: dict[str, int] = {}
    real = SimulatedSession.run_job

    async def counted(self: SimulatedSession, job: Job, *rest: object) -> None:
        for name in (job.device.name, "all"):
            now[name] = now.get(name, 0) + 1
            most[name] = max(most.get(name, 0), now[name])
        await real(self, job, *rest)  # type: ignore[arg-type]
        for name in (job.device.name, "all"):
            now[name] -= 1

    monkeypatch.setattr(SimulatedSession, "run_job", counted)
    store = Store(tmp_path / "farm")
    jobs = [make_job(tmp_path, device(name, job_s=0.1), salt=str(k)) for name in ("a", "b", "c", "d") for k in range(3)]
    ids, _ = drained(store, jobs)
    assert {r.state for r in store.rows(ids)} == {"done"}
    assert most.pop("all") >= 3 and most == dict.fromkeys("abcd", 1)


def test_cancelling_ends_running_and_queued_jobs(tmp_path: Path) -> None:
    store, sim = Store(tmp_path / "farm"), device(job_s=30)
    jobs = [make_job(tmp_path, sim, salt=str(k)) for k in range(3)]
    ids = store.add(jobs)

    async def go() -> None:
        work = asyncio.create_task(drain(store, ids, {"sim": sim}, pace=FAST))
        while not any(r.state == "running" for r in store.rows(ids)):
            await asyncio.sleep(0.01)
        assert Store(tmp_path / "farm").cancel(ids) == 3  # from another process
        await asyncio.wait_for(work, 5)

    asyncio.run(go())
    assert {r.state for r in store.rows(ids)} == {"cancelled"}
    assert not list(store.results.iterdir())


def test_ctrl_c_queues_what_was_running_again_without_costing_an_attempt(tmp_path: Path) -> None:
    store, sim = Store(tmp_path / "farm"), device(job_s=30)
    ids = store.add([make_job(tmp_path, sim)])

    async def go() -> None:
        work = asyncio.create_task(drain(store, ids, {"sim": sim}, pace=FAST))
        await asyncio.sleep(0.1)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(go())
    assert (store.rows(ids)[0].state, store.rows(ids)[0].attempts) == ("queued", 0)
    assert isinstance(store.claim("sim", ids), Claim)


def test_two_hosts_never_hold_one_device(tmp_path: Path) -> None:
    mine = Store(tmp_path / "farm")
    theirs = Store(tmp_path / "farm", owner=Owner(Owner.me().boot, 1, Owner.me().started))
    jobs = [make_job(tmp_path, device(), salt=str(k)) for k in range(2)]
    ids = mine.add(jobs)
    claim = claimed(mine, "sim", ids)
    assert isinstance(theirs.claim("sim", ids), Wait)
    assert mine.end(claim, "done")
    assert claimed(theirs, "sim", ids).id == ids[1]


def test_a_lease_of_a_dead_host_is_free_at_once_and_of_a_silent_one_after_its_time(tmp_path: Path) -> None:
    watch = Watch()
    silent = subprocess.Popen(["sleep", "30"])
    from datk.farm.agent import start_time

    owner = Owner(Owner.me().boot, silent.pid, start_time(silent.pid) or "")
    theirs, mine = Store(tmp_path / "farm", owner=owner), Store(tmp_path / "farm", clock=watch)
    ids = mine.add([make_job(tmp_path, device())])
    old = claimed(theirs, "sim", ids)
    try:
        assert isinstance(mine.claim("sim", ids), Wait)
        watch.passed += LEASE_S + 1
        new = claimed(mine, "sim", ids)
        assert theirs.renew(old) == "lost"
        assert not theirs.end(old, "done", folder="theirs")  # the fence: what comes too late is not recorded
        assert mine.rows(ids)[0].state == "running"
        mine.put_back(new, error="", delay_s=0, counts=False)
        again = claimed(theirs, "sim", ids)
        assert isinstance(Store(tmp_path / "farm").claim("sim", ids), Wait)
    finally:
        silent.kill()
        silent.wait()
    assert claimed(mine, "sim", ids).token != again.token


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0, 1e9])
def test_a_jump_of_the_wall_clock_frees_no_lease_and_delays_no_retry(tmp_path: Path, jump: float) -> None:
    watch = Watch()
    mine, theirs = Store(tmp_path / "farm", clock=watch), Store(tmp_path / "farm", clock=watch)
    ids = mine.add([make_job(tmp_path, device())])
    claim = claimed(mine, "sim", ids)
    watch.shift += jump
    assert isinstance(theirs.claim("sim", ids), Wait)
    assert mine.renew(claim) == "held"
    mine.put_back(claim, error="try again", delay_s=5, counts=True)
    assert isinstance(theirs.claim("sim", ids), Wait)
    watch.passed += 6
    assert isinstance(theirs.claim("sim", ids), Claim)


_HOST = """
import asyncio, json, sys
from pathlib import Path
from datk.farm.inventory import Device
from datk.farm.scheduler import drain, Pace
from datk.farm.store import Store
store, ids, device = Store(Path(sys.argv[1])), json.loads(sys.argv[2]), Device.model_validate_json(sys.argv[3])
asyncio.run(drain(store, ids, {device.name: device}, pace=Pace(renew_s=.05, poll_s=.02)))
"""


def host(store: Path, ids: list[int], sim: Device) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", _HOST, str(store), json.dumps(ids), sim.model_dump_json()], env=env)


def test_a_killed_hosts_jobs_are_taken_up_by_the_next(tmp_path: Path) -> None:
    store, slow = Store(tmp_path / "farm"), device(job_s=60)
    ids = store.add([make_job(tmp_path, slow)])
    first = host(tmp_path / "farm", ids, slow)
    end = time.monotonic() + 20
    while store.rows(ids)[0].state != "running":
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    asyncio.run(drain(store, ids, {"sim": device()}, pace=FAST))
    assert store.rows(ids)[0].state == "done"
    assert any("its host is gone" in text for _, text in store.events(ids[0]))
    assert len(list(store.results.iterdir())) == 1


def test_two_hosts_share_a_queue_and_every_job_is_recorded_once(tmp_path: Path) -> None:
    store, sim = Store(tmp_path / "farm"), device(job_s=0.02)
    ids = store.add([make_job(tmp_path, sim, salt=str(k)) for k in range(12)])
    hosts = [host(tmp_path / "farm", ids, sim) for _ in range(2)]
    assert [h.wait(60) for h in hosts] == [0, 0]
    assert [(r.state, r.attempts) for r in store.rows(ids)] == [("done", 1)] * 12
    assert sorted(p.name for p in store.results.iterdir()) == sorted(r.folder for r in store.rows(ids))


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_jobs_on_fifty_devices_cost_little_time_and_no_memory(tmp_path: Path, count: int) -> None:
    from datk.measure.memory import resident_bytes

    store = Store(tmp_path / "farm")
    devices = [device(f"sim-{k}") for k in range(50)]
    first = make_job(tmp_path, devices[0], n=1)
    warm = [again(first, device=d, salt="warm") for d in devices]
    drained(store, warm)
    before = resident_bytes() or 0
    jobs = [again(first, device=devices[k % 50], salt=str(k)) for k in range(count)]
    started = time.process_time()  # a busy machine must not fail it
    ids, _ = drained(store, jobs)
    seconds = time.process_time() - started
    assert store.counts(ids) == {"done": count}
    assert seconds / count < 0.05  # ten times what `make bench` measures on a quiet machine
    assert (resident_bytes() or 0) - before < 60e6
