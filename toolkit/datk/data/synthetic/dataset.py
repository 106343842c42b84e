"""A folder of synthetic images with exact depth: made in parallel, resumable, the same whatever the worker count.

OUT/images/000000.png  RGB photograph-like picture
OUT/depth/000000.npy   float32 (H, W) depth along the axis in metres, inf = sky
OUT/index.json         what was made, by which renderer and why, one row an image

Image i depends only on (seed, i, size, renderer, SCENE_VERSION).
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import atomic_path, sha256_file, sha256_json, write_json
from datk.data.synthetic.build import SCENE_VERSION, build_scene
from datk.data.synthetic.materials import Surface
from datk.data.synthetic.renderer import Renderer, choose_renderer, open_renderer
from datk.data.synthetic.scene import Scene, Size
from datk.errors import DataError, UsageError
from datk.measure.worker_process import end_with_parent

INDEX_SCHEMA = 1
_CHUNK = 8
_PNG_END = b"IEND\xaeB`\x82"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SyntheticSummary:
    """What generate() did.  made + kept = count. `reason` says why this renderer was used."""

    folder: Path
    count: int
    made: int
    kept: int
    renderer: str
    reason: str
    size: Size
    seed: int


@dataclass(frozen=True)
class SyntheticItem:
    """One image with its depth."""

    image_path: Path
    depth_path: Path
    scene_kind: str


@dataclass(frozen=True)
class ItemRecord:
    """A row of index.json. Depth figures in metres over the pixels that are not sky (null when all is sky)."""

    image: str
    depth: str
    scene_kind: str
    min_depth_m: float | None
    median_depth_m: float | None
    sky_fraction: float
    families: tuple[str, ...]
    has_glass: bool
    has_mirror: bool


@dataclass(frozen=True)
class _Job:
    out: str
    size: Size
    seed: int
    renderer: str


def generate(
    out: Path,
    *,
    count: int,
    size: Size,
    seed: int,
    renderer: str = "auto",
    progress: Progress | None = None,
    workers: int | None = None,
) -> SyntheticSummary:
    """Render `count` scenes of a seed into a folder; complete pairs already there are kept, broken ones redone.

    size: (height, width) pixels.  renderer: auto, moderngl or embreex.  workers: processes (None: two, or one for few
    images or on one core); the result does not depend on it.
    Raises UsageError for a bad count or size, EnvironmentLacks when no renderer runs, DataError when the folder holds
    a data set of another seed, size, renderer or scene version.
    """
    out = Path(out)
    _check_request(count, size)
    identity = _read_identity(out)
    if renderer == "auto" and identity is not None and identity["renderer"] in ("moderngl", "embreex"):
        choice = choose_renderer(str(identity["renderer"]))
        name, reason = choice.name, str(identity["reason"])
    else:
        choice = choose_renderer(renderer)
        name, reason = choice.name, choice.reason
    header: dict[str, Any] = {
        "schema_version": INDEX_SCHEMA,
        "scene_version": SCENE_VERSION,
        "generator_sha256": generator_sha256(),
        "renderer": name,
        "reason": reason,
        "seed": seed,
        "size": list(size),
        "count": count,
    }
    _check_same(out, identity, header)
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "depth").mkdir(parents=True, exist_ok=True)
    write_json(out / "index.json", {**header, "complete": False, "items": []})

    job = _Job(str(out), size, seed, name)
    todo = [i for i in range(count) if not _is_complete(out, i, size)]
    kept = sorted(set(range(count)) - set(todo))
    records: dict[int, ItemRecord] = {}
    if progress:
        progress(0, count)
    for results in _run(job, todo, kept, workers):
        records.update(results)
        if progress:
            progress(len(records), count)
    items = [asdict(records[i]) for i in range(count)]
    write_json(out / "index.json", {**header, "complete": True, "items": items})
    return SyntheticSummary(out, count, len(todo), len(kept), name, reason, size, seed)


def load(folder: Path) -> list[SyntheticItem]:
    """The items of a finished folder, in order.

    Raises DataError when index.json is missing, unreadable, of another schema, unfinished, or names missing files.
    """
    folder = Path(folder)
    index = _read_identity(folder)
    if index is None:
        raise DataError(f"{folder}: no index.json", hint="make one: datk data synth --count N --size HxW --out DIR")
    if not index.get("complete"):
        raise DataError(f"{folder}: not finished", hint="run the same `datk data synth` again; it continues")
    items = [
        SyntheticItem(folder / str(row["image"]), folder / str(row["depth"]), str(row["scene_kind"]))
        for row in index["items"]
    ]
    gone = [p for item in items for p in (item.image_path, item.depth_path) if not p.is_file()]
    if gone:
        raise DataError(
            f"{folder}: {len(gone)} files of the index are missing, first {gone[0].relative_to(folder)}",
            hint="run the same `datk data synth` again; it makes what is missing",
        )
    return items


def generator_sha256() -> str:
    """Digest of the source of this package: which code drew a folder, down to the byte."""
    folder = Path(__file__).parent
    return sha256_json({p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*.py"))})


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_request(count: int, size: Size) -> None:
    problems = []
    if count < 1:
        problems.append(f"count: {count} is not positive")
    if len(size) != 2 or min(size) < 14 or max(size) > 4096:
        problems.append(f"size: {size} must be (height, width), each 14..4096 pixels")
    if problems:
        raise UsageError("synthetic images: " + "; ".join(problems), hint="e.g. --count 100 --size 126x168")


def _read_identity(folder: Path) -> dict[str, Any] | None:
    path = folder / "index.json"
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not JSON ({error})", hint="delete this file and run `datk data synth` again"
        ) from error
    if not isinstance(value, dict) or value.get("schema_version") != INDEX_SCHEMA:
        found = value.get("schema_version") if isinstance(value, dict) else type(value).__name__
        raise DataError(
            f"{path}: schema_version {found!r}, this datk reads {INDEX_SCHEMA}", hint="choose another --out"
        )
    return value


def _check_same(out: Path, found: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
    if found is None:
        strays = [p for folder in ("images", "depth") for p in (out / folder).glob("*") if not p.name.startswith(".")]
        if strays:
            raise DataError(
                f"{out}: holds {len(strays)} files but no index.json, so their seed is unknown",
                hint="choose another --out or remove them",
            )
        return
    keys = ("scene_version", "renderer", "seed", "size")
    differs = [f"{k} {found.get(k)!r} (wanted {wanted[k]!r})" for k in keys if found.get(k) != wanted[k]]
    if differs:
        raise DataError(f"{out}: holds another data set: {', '.join(differs)}", hint="choose another --out")


def _paths(out: Path, index: int) -> tuple[Path, Path]:
    return out / "images" / f"{index:06d}.png", out / "depth" / f"{index:06d}.npy"


def _is_complete(out: Path, index: int, size: Size) -> bool:
    """Whether both files of a pair are there, whole and of the right size."""
    image_path, depth_path = _paths(out, index)
    if not image_path.is_file() or not depth_path.is_file():
        return False
    data = image_path.read_bytes()
    if not data.endswith(_PNG_END):
        return False
    import cv2

    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape != (*size, 3):
        return False
    depth = _read_depth(depth_path)
    return depth is not None and depth.shape == size and not bool(np.isnan(depth).any()) and float(depth.min()) > 0


def _read_depth(path: Path) -> NDArray[np.float32] | None:
    """The depth map, or None when the file is not a whole float32 array."""
    try:
        depth: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    return depth if isinstance(depth, np.ndarray) and depth.dtype == np.float32 else None


# --- work ------------------------------------------------------------------------------------------------------------


def _run(job: _Job, todo: list[int], kept: list[int], workers: int | None) -> Iterator[dict[int, ItemRecord]]:
    for start in range(0, len(kept), _CHUNK):
        yield {i: _record_of_kept(job, i) for i in kept[start : start + _CHUNK]}
    if workers is None:
        workers = 1 if len(todo) < 4 * _CHUNK else min(2, os.cpu_count() or 1)
    chunks = [todo[i : i + _CHUNK] for i in range(0, len(todo), _CHUNK)]
    if workers <= 1:
        if not chunks:
            return
        device = open_renderer(job.renderer)
        try:
            for index in todo:
                yield {index: _make(job, device, index)}
        finally:
            device.close()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        running = set()
        try:
            for chunk in chunks:
                running.add(pool.submit(_worker, job, chunk))
                if len(running) >= 2 * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


_open: dict[str, Renderer] = {}
"""The renderer of a worker process, opened once."""


def _worker(job: _Job, indices: list[int]) -> dict[int, ItemRecord]:
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's software rasteriser: the processes are the parallelism
    if job.renderer not in _open:
        _open[job.renderer] = open_renderer(job.renderer)
    return {i: _make(job, _open[job.renderer], i) for i in indices}


def _make(job: _Job, renderer: Renderer, index: int) -> ItemRecord:
    import cv2

    scene = build_scene(job.seed, index)
    rendered = renderer.render(scene, job.size)
    image_path, depth_path = _paths(Path(job.out), index)
    encoded, data = cv2.imencode(".png", rendered.image[..., ::-1])
    assert encoded, index
    with atomic_path(depth_path) as part:
        np.save(part, rendered.depth_m)
    with atomic_path(image_path) as part:
        part.write_bytes(data.tobytes())
    return _record(job, scene, index, rendered.depth_m)


def _record_of_kept(job: _Job, index: int) -> ItemRecord:
    depth = _read_depth(_paths(Path(job.out), index)[1])
    assert depth is not None, index
    return _record(job, build_scene(job.seed, index), index, depth)


def _record(job: _Job, scene: Scene, index: int, depth_m: NDArray[np.float32]) -> ItemRecord:
    image_path, depth_path = (p.relative_to(job.out).as_posix() for p in _paths(Path(job.out), index))
    solid = depth_m[np.isfinite(depth_m)]
    surfaces = {part.material.surface for instance in scene.instances for part in instance.parts}
    return ItemRecord(
        image=image_path,
        depth=depth_path,
        scene_kind=scene.kind,
        min_depth_m=round(float(solid.min()), 4) if solid.size else None,
        median_depth_m=round(float(np.median(solid)), 4) if solid.size else None,
        sky_fraction=round(1 - solid.size / depth_m.size, 4),
        families=scene.families,
        has_glass=Surface.GLASS in surfaces,
        has_mirror=Surface.MIRROR in surfaces,
    )
