"""The same shards on a Ray cluster: Ray hands out shard numbers, each actor labels them as any other worker does.

Ray may run a task twice; the claims see to it that a shard is still published once. The cluster's machines must see
the same folders: the images, the teacher and OUT.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.errors import EnvironmentLacks
from datk.train.labelling.job import Job, open_job
from datk.train.labelling.work import LEASE_S, LabelSummary, Open, finish, label_and_publish, work

if TYPE_CHECKING:
    from datk.train.loop import Progress

RAY = 'pip install "datk[ray]"'


class ShardLabeller:
    """An actor of the cluster: opens teacher and images once, then labels the shards it is given."""

    def __init__(self, out: str, opener: Open, lease_s: float) -> None:
        self.job = open_job(Path(out))
        self.teacher, self.images = opener()
        self.lease_s = lease_s

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """batch: {"id": shard numbers}. Returns what came of each, by the same numbers."""
        said = [
            label_and_publish(self.job, int(shard), self.images, self.teacher, lease_s=self.lease_s)
            for shard in batch["id"]
        ]
        return {"id": batch["id"], "said": said}


def run_on_ray(
    job: Job, opener: Open, workers: int, *, lease_s: float = LEASE_S, progress: Progress | None = None
) -> LabelSummary:
    """Label what is not finished yet with `workers` actors, then whatever their deaths left over, and write the index.

    Uses the cluster this process is connected to, or starts one on this machine. Raises EnvironmentLacks without Ray,
    and what label_and_publish raises.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise EnvironmentLacks("pseudo-labels on Ray need ray", hint=RAY) from error
    finished = job.finished()
    left = [shard for shard in range(job.shards) if shard not in finished]
    if left:
        gpus = 1 if job.record["arithmetic"]["device"] == "cuda" else 0
        rows = ray.data.from_items([{"id": shard} for shard in left], override_num_blocks=len(left)).map_batches(
            ShardLabeller,
            fn_constructor_args=(str(job.out.resolve()), opener, lease_s),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=job.section.threads,
            num_gpus=gpus,
        )
        for _ in rows.iter_rows():
            if progress is not None:
                done = sum(len(job.numbers(shard)) for shard in job.finished())
                progress(done, job.count)
    if len(job.finished()) == job.shards:
        return finish(job)
    teacher, images = opener()  # shards that other workers held while Ray asked for them
    try:
        return work(job, teacher, images, lease_s=lease_s, progress=progress)
    finally:
        teacher.close()
