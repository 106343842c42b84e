"""Score models on one benchmark: side by side, from kept answers where there are, over several processes, resumable."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datk.artifact.files import sha256_file
from datk.artifact.provenance import tool_versions
from datk.depth.io_spec import Size
from datk.depth.runner import Runner
from datk.errors import UsageError
from datk.evaluate.answers import AnswerFile
from datk.evaluate.benchmarks.dense import DenseResult
from datk.evaluate.benchmarks.pairs import BenchResult
from datk.evaluate.benchmarks.source import Identity, NamedRunner, identity_of
from datk.evaluate.benchmarks.task import BenchTask, TaskRequest, open_task
from datk.evaluate.predictions import is_predictions, read_spec
from datk.measure.heap import keep_freed_memory
from datk.measure.worker_process import end_with_parent
from datk.models.outside import check_outside, is_outside

CACHE = Path("runs/judged/answers")
"""Where answers are kept unless told otherwise."""
_RUNTIMES = ("torch", "onnxruntime", "openvino", "ai-edge-litert", "coremltools")
_TOOLS = (*_RUNTIMES, "transformers", "diffusers", "numpy")
_TOOLS_OF_PIXELS = ("opencv-python-headless",)

Progress = Callable[[int, int, str], None]
Result = BenchResult | DenseResult


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model as it was named: a path, hf:..., marigold:... or preds:DIR. Small and picklable."""

    name: str
    """Unique in its call; what tables and gates call it."""
    spec: str
    size: Size | None = None
    """Checkpoints and models from elsewhere: a bucket; None = the model's own, else the official rule."""
    short_side: int | None = None
    """Checkpoints: the official rule with this short side instead of 518."""

    def open(self) -> Runner:
        """Raises like pipeline.models.open_model."""
        from datk.pipeline.models import open_model

        return open_model(Path(self.spec), self.size, short_side=self.short_side)

    def digest(self) -> str:
        """Of the weights or the artifact, without loading it."""
        if is_predictions(self.spec):
            return str(read_spec(self.spec)[1].model_dump_json())
        if is_outside(self.spec):
            return check_outside(self.spec)[1]
        from datk.pipeline.models import find_artifact

        path = Path(self.spec)
        if not path.exists():
            raise UsageError(f"{path}: no such model", hint="name an artifact, an export folder or a checkpoint")
        return sha256_file(find_artifact(path)[0])


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A model's result, and how much of it was kept from before."""

    contender: Contender
    who: Identity
    result: Result
    n_images: int
    n_kept: int


def contenders_of(specs: Sequence[str], *, sizes: Sequence[str] = (), name_of: Callable[[str], str]) -> list[Contender]:
    """One contender a model, or one a model and size. Names are made unique with the path, the size behind an @.

    sizes: each N (the official rule with that short side) or HxW (a bucket). Raises UsageError for a model named twice
    or a size that is no multiple of 14.
    """
    if len(set(specs)) < len(specs):
        twice = next(s for s in specs if list(specs).count(s) > 1)
        raise UsageError(f"{twice} is named twice")
    short = [name_of(s) for s in specs]
    names = [n if short.count(n) == 1 else s for n, s in zip(short, specs, strict=True)]
    if not sizes:
        return [Contender(name=n, spec=s) for n, s in zip(names, specs, strict=True)]
    return [_sized(n, s, size) for n, s in zip(names, specs, strict=True) for size in sizes]


def _sized(name: str, spec: str, size: str) -> Contender:
    from datk.depth.preprocess import parse_size

    parsed = parse_size(size)
    if "x" in size.lower():
        return Contender(name=f"{name}@{size}", spec=spec, size=parsed)
    return Contender(name=f"{name}@{size}", spec=spec, short_side=parsed[0])


def judge(
    contender: Contender,
    request: TaskRequest,
    task: BenchTask,
    *,
    jobs: int = 1,
    cache: Path | None = CACHE,
    progress: Progress = lambda done, total, what: None,
) -> Scored:
    """Score one model on every image of a task.

    Answers kept in `cache` under the digests of model and image are taken from there; the others are computed, in this
    process or by `jobs` of them, and kept one by one: after a kill the same call goes on. cache None: nothing is kept.
    The model is not even opened when every answer is there. Raises what the model or the benchmark raises.
    """
    keys = task.keys
    answers = _answers(contender, cache)
    own = open_named(contender, keys)
    wanted = [_key(task.content(i), own, key) for i, key in enumerate(keys)]
    records: list[Any] = [None] * len(keys)
    todo: dict[str, list[int]] = {}
    for i, key in enumerate(wanted):
        kept = answers.get(key) if answers is not None else None
        if kept is not None and answers is not None and answers.who is not None:
            records[i] = task.parse(kept)
        else:
            todo.setdefault(key or f"#{i}", []).append(i)
    kept_count = len(keys) - sum(map(len, todo.values()))
    who = Identity.model_validate(answers.who) if answers is not None and answers.who is not None else None
    done = kept_count
    progress(
        done, len(keys), f"{contender.name}: {kept_count} answers kept from before" if kept_count else contender.name
    )
    for key, value, found in _computed(contender, request, task, todo, jobs):
        who = found
        if answers is not None:
            answers.introduce(found.model_dump(mode="json"))
            if not key.startswith("#") and not value.problem:
                answers.add(key, value.model_dump(mode="json"))
        for i in todo[key]:
            records[i] = value
        done += len(todo[key])
        progress(done, len(keys), contender.name)
    assert who is not None  # every image was kept or computed
    result = task.result(who.model_copy(update={"name": contender.name}), records)
    return Scored(contender=contender, who=who, result=result, n_images=len(keys), n_kept=kept_count)


def open_named(contender: Contender, keys: Sequence[str]) -> NamedRunner | None:
    """The folder of maps behind preds:DIR, checked against the benchmark's names; None for a net."""
    if not is_predictions(contender.spec):
        return None
    from datk.evaluate.predictions import open_predictions

    folder = open_predictions(contender.spec)
    folder.check(keys)
    return folder


def _answers(contender: Contender, cache: Path | None) -> AnswerFile | None:
    if cache is None:
        return None
    net = not is_predictions(contender.spec)
    model = {
        "digest": contender.digest(),
        "size": list(contender.size) if contender.size else None,
        "short_side": contender.short_side,
        "tools": tool_versions((*_TOOLS, *_TOOLS_OF_PIXELS) if net else _TOOLS_OF_PIXELS),
    }
    return AnswerFile(cache, model)


def _key(content: str | None, own: NamedRunner | None, name: str) -> str | None:
    if content is None or own is None:
        return content
    digest = own.digest_of(name)
    return f"{content}-{digest}" if digest else None


def _computed(
    contender: Contender, request: TaskRequest, task: BenchTask, todo: dict[str, list[int]], jobs: int
) -> Iterator[tuple[str, Any, Identity]]:
    """(key, record, who) as they come. One image of each key is scored."""
    if not todo:
        return
    if jobs <= 1:
        runner = contender.open()
        try:
            who = identity_of(runner)
            for key, indices in todo.items():
                yield key, task.score(runner, indices[0]), who
        finally:
            runner.close()
        return
    with ProcessPoolExecutor(
        min(jobs, len(todo)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(contender, request, max(1, (os.cpu_count() or 1) // jobs)),
    ) as pool:
        waiting: dict[Future[tuple[Any, Identity]], str] = {}
        rest = iter(todo.items())
        try:
            while True:
                while len(waiting) < 2 * jobs and (item := next(rest, None)) is not None:
                    waiting[pool.submit(_work, item[1][0])] = item[0]
                if not waiting:
                    return
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    key = waiting.pop(future)
                    value, who = future.result()
                    yield key, value, who
        finally:
            for future in waiting:
                future.cancel()


_HERE: dict[str, Any] = {}
"""What a worker process opened, once."""


def _begin(contender: Contender, request: TaskRequest, threads: int) -> None:
    """In a worker, before anything heavy is imported."""
    end_with_parent()
    keep_freed_memory()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import cv2

    cv2.setNumThreads(threads)
    _HERE["contender"], _HERE["request"] = contender, request


def _work(index: int) -> tuple[Any, Identity]:
    if "runner" not in _HERE:  # here, not in _begin: what goes wrong is then told in its own words
        _HERE["task"], _HERE["runner"] = open_task(_HERE["request"]), _HERE["contender"].open()
    return _HERE["task"].score(_HERE["runner"], index), identity_of(_HERE["runner"])
