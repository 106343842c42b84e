"""The same job on a Ray cluster of this machine: the same bytes, actors killed or not."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from datk.artifact.files import sha256_file
from datk.data.sources import open_images
from datk.errors import EnvironmentLacks
from datk.train.labelling.on_ray import run_on_ray
from datk.train.pseudo_label import label_images, start_job
from tests.unit.train.labelling.toys import SECTION, BrightTeacher, open_toy, write_photos

SMALL = SECTION.model_copy(update={"shard_size": 3})
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def cluster():
    """Two actors' worth of a cluster on this machine, which tells nobody about itself."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray", reason="ray is not installed")
    pytest.importorskip("ray.data", reason="ray[data] is not installed")
    path = os.pathsep.join([str(ROOT), str(ROOT / "toolkit")])
    ray.init(
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}},
    )
    yield ray
    ray.shutdown()


class DiesOnce(BrightTeacher):
    """Kills its process the first time anybody asks, as a machine that fails would."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark

    def predict(self, batch):
        if not self.mark.exists():
            self.mark.write_text("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(batch)


def open_dying(folder: Path, mark: Path):
    return DiesOnce(mark), open_images(folder)


@pytest.mark.slow
def test_a_cluster_leaves_the_bytes_that_one_worker_leaves_even_when_an_actor_dies(cluster, tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 14)
    (folder / "p005.png").write_bytes(b"damaged")
    label_images(BrightTeacher(), open_images(folder), tmp_path / "alone", SMALL)
    for name, opener in (
        ("calm", partial(open_toy, folder)),
        ("dying", partial(open_dying, folder, tmp_path / "mark")),
    ):
        told: list[tuple[int, int]] = []
        job = start_job(BrightTeacher(), open_images(folder), tmp_path / name, SMALL)
        found = run_on_ray(job, opener, 2, lease_s=5.0, progress=lambda *done, told=told: told.append(done))
        assert (found.labels, found.quarantined) == (13, 1)
        assert sha256_file(tmp_path / name) == sha256_file(tmp_path / "alone"), name
        assert told[-1] == (14, 14)
    assert (tmp_path / "mark").exists(), "nobody died"


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_photos(tmp_path / "photos", 2)
    job = start_job(BrightTeacher(), open_images(folder), tmp_path / "out", SMALL)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentLacks) as caught:
        run_on_ray(job, partial(open_toy, folder), 2)
    assert caught.value.hint == 'pip install "datk[ray]"' and caught.value.exit_code == 4
