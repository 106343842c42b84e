"""`datk quantize seeds`: quantise on several draws of calibration photographs and see how far the results lie apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datk import targets
from datk.artifact.files import sha256_file, sha256_json
from datk.artifact.provenance import tool_versions
from datk.data.calibration_set import check_files, check_unseen, is_calibration_set, read_calibration_set
from datk.data.photos import check_held_out
from datk.data.scene_kinds import draw
from datk.depth.io_spec import Size
from datk.depth.preprocess import bucket_image, read_image
from datk.errors import DataError, UsageError
from datk.measure.device import host_info
from datk.pipeline.runs import STUDENT, newest_run
from datk.pipeline.stage import Reporter, source_digest
from datk.pipeline.steps import weights
from datk.pipeline.steps.calibration import FEWEST
from datk.pipeline.steps.photos import photo_set
from datk.pipeline.steps.weights import trained_size
from datk.targets.base import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from datk.quantize.seed_spread import SeedRow, SeedSpread

POOL = 1000
"""Photographs of a folder that are looked at to draw from; a built set is drawn from whole."""
MOST = 100
"""Photographs a draw, unless told: half of what there is, up to so many."""
SAVE_EVERY_S = 20.0
TOOLS = ("torch", "torchao", "nncf")
CODE = ("models", "quantize", "targets/pt2e.py", "data/scene_kinds.py", "depth/preprocess.py")


@dataclass(frozen=True)
class SeedsRequest:
    """What was typed."""

    target: str
    seeds: int = 3
    checkpoint: Path | None = None
    input_size: Size | None = None
    calibration: Path | None = None
    """Folder of photographs or a built set to draw from; None: those datk ships."""
    count: int | None = None
    images: Path | None = None
    """Folder of photographs to judge on; None: those datk ships for it."""
    photos: int = 50
    out: Path | None = None


@dataclass(frozen=True)
class _Pool:
    """What seeds draw from. kinds: of scenes; all alike in a plain folder."""

    paths: list[Path]
    names: list[str]
    kinds: list[int]
    sha256: str


def measure_seeds(request: SeedsRequest, *, reporter: Reporter) -> tuple[SeedSpread, Path]:
    """The figures of every seed asked for and their file; seeds it holds already are not measured again.

    After Ctrl-C the same request goes on: a program that was quantised is kept until it is judged.
    Raises UsageError, CheckpointError or DataError.
    """
    from datk.models.deployment import deployment_module
    from datk.quantize.seed_spread import file_name

    target = targets.get(request.target)
    if target.scheme is None:
        raise UsageError(f"target '{target.name}' has no quantised precision")
    checkpoint = request.checkpoint or newest_run() / STUDENT / "student.safetensors"
    loaded = weights.read(checkpoint)
    encoder = loaded.net.encoder_spec
    target.check_encoder(encoder.family if encoder else None, "int8")
    size = request.input_size or trained_size(checkpoint) or (518, 518)
    held_out = photo_set(str(request.images) if request.images else "builtin", "validation", request.photos, seed=0)
    pool = _pool(request.calibration, size, held_out.paths, reporter)
    count = _count(request.count, pool)
    facts: dict[str, Any] = {
        "weights_sha256": loaded.sha256,
        "preset": loaded.preset.name,
        "target": target.name,
        "input_size": list(size),
        "pool": {"sha256": pool.sha256, "photographs": len(pool.paths), "kinds": len(set(pool.kinds))},
        "drawn": count,
        "held_out": [
            {"name": n, "sha256": sha256_file(p)} for n, p in zip(held_out.names, held_out.paths, strict=True)
        ],
    }
    room = f"targets/{target.package.rpartition('.')[2]}/scheme.py"
    code = [source_digest(c) for c in (*CODE, *([room] if target.package.startswith("datk.") else []))]
    key = sha256_json({**facts, "code": code, "tools": tool_versions((*TOOLS, *target.tools))})
    path = request.out or checkpoint.with_name(file_name(target.name, size))
    value = _begun(path, key, facts, reporter)
    module = deployment_module(loaded.net, size, target.input_form)
    work = _Work(target, size, module, pool, count, value, path, _Judge(module, held_out.paths, target, size))
    for seed in range(request.seeds):
        row = value.row(seed)
        if row is None or len(row.r) < len(held_out.paths):
            _one_seed(work, seed, reporter)
    _clear(path, key, request.seeds)
    return value, path


def _parts(path: Path) -> Path:
    """Where programs are kept until they are judged."""
    return path.with_name(f".{path.stem}.parts")


def _program(path: Path, key: str, seed: int) -> Path:
    return _parts(path) / f"{key[:12]}-seed-{seed}.pt2"


def _clear(path: Path, key: str, seeds: int) -> None:
    """Remove the programs of judged seeds, and their folder when nothing else lies there."""
    for seed in range(seeds):
        _program(path, key, seed).unlink(missing_ok=True)
    if _parts(path).is_dir() and not any(_parts(path).iterdir()):
        _parts(path).rmdir()


@dataclass(frozen=True)
class _Work:
    """What every seed needs."""

    target: Target
    size: Size
    module: nn.Module
    pool: _Pool
    count: int
    value: SeedSpread
    path: Path
    judge: _Judge


def _pool(folder: Path | None, size: Size, held_out: list[Path], reporter: Reporter) -> _Pool:
    """A set by its kinds, else a folder. Unreadable photographs and flat ones are left out and told."""
    if folder is not None and is_calibration_set(folder):
        found = read_calibration_set(folder)
        check_files(folder, found)
        check_unseen(held_out, found, max_distance=found.keep_out["max_distance"])
        reporter.note(found.describe())
        paths = [folder / entry.file for entry in found.photos]
        return _Pool(paths, [e.name for e in found.photos], [e.kind for e in found.photos], found.sha256)
    photos = photo_set(str(folder) if folder else "builtin", "calibration", POOL, seed=0)
    check_held_out(held_out, photos.paths)
    usable = []
    for number, path in enumerate(photos.paths):
        reporter.progress(number + 1, len(photos.paths), "look at photographs")
        if why := _unusable(path, size):
            reporter.note(f"calibration: {photos.names[number]} left out, {why}")
        else:
            usable.append(number)
    return _Pool([photos.paths[i] for i in usable], [photos.names[i] for i in usable], [0] * len(usable), photos.sha256)


def _unusable(path: Path, size: Size) -> str:
    """Why no range can be learned from a photograph; empty where one can."""
    try:
        image = bucket_image(read_image(path), size)
    except DataError as error:
        return error.message
    return "one flat colour" if bool((image == image[:1, :1]).all()) else ""


def _count(asked: int | None, pool: _Pool) -> int:
    """Photographs a draw. Raises UsageError when draws could not differ or would be too small."""
    count = asked if asked is not None else min(MOST, len(pool.paths) // 2)
    if count < FEWEST:
        raise UsageError(
            f"{count} of {len(pool.paths)} photographs a draw: at least {FEWEST} are needed",
            hint="name a folder or set with more photographs: --calibration DIR",
        )
    if count >= len(pool.paths):
        raise UsageError(
            f"--count {count} of {len(pool.paths)} photographs: every seed would draw the same",
            hint=f"--count {len(pool.paths) // 2}, or a larger --calibration DIR",
        )
    return count


def _begun(path: Path, key: str, facts: dict[str, Any], reporter: Reporter) -> SeedSpread:
    from datk.quantize.seed_spread import SeedSpread, read_spread

    if path.suffix != ".json":
        raise UsageError(f"--out {path}: the figures are a .json file", hint=f"--out {path.with_suffix('.json')}")
    if not path.is_file():
        return SeedSpread(key=key, facts={**facts, "host": host_info(), "tools": tool_versions(TOOLS)})
    before = read_spread(path)
    if before.key != key:
        raise UsageError(
            f"{path} holds seeds of other weights, photographs, another bucket or another datk",
            hint="name another file with --out, or delete it",
        )
    reporter.note(f"going on with {path}")
    return before


def _one_seed(work: _Work, seed: int, reporter: Reporter) -> None:
    """Quantise unless that was done before, judge what is left, write the figures; the program goes."""
    from datk.quantize.program import load_program
    from datk.quantize.seed_spread import write_spread

    kept = _program(work.path, work.value.key, seed)
    row = work.value.row(seed)
    if row is None or not kept.is_file():
        row = _quantised(work, seed, kept, reporter)
        work.value.seeds = sorted([*(r for r in work.value.seeds if r.seed != seed), row], key=lambda r: r.seed)
        write_spread(work.value, work.path)
    work.judge.seed(
        row,
        load_program(kept),
        save=lambda: write_spread(work.value, work.path),
        progress=lambda done, total: reporter.progress(done, total, f"seed {seed}: judge"),
    )


def _quantised(work: _Work, seed: int, kept: Path, reporter: Reporter) -> SeedRow:
    """Draw, quantise, keep the program. The row it returns has no figures yet."""
    from datk.quantize.calibration import input_tensor
    from datk.quantize.program import save_program
    from datk.quantize.ptq import quantize_module
    from datk.quantize.seed_spread import SeedRow

    target = work.target
    assert target.scheme is not None
    chosen = draw(work.pool.kinds, work.count, seed=seed)
    images = [bucket_image(read_image(work.pool.paths[i]), work.size) for i in chosen]
    names = [work.pool.names[i] for i in chosen]
    begun = time.monotonic()
    program = quantize_module(
        work.module,
        images,
        target.load(target.scheme)(),
        input_form=target.input_form,
        input_size=work.size,
        seed=seed,
        min_images=FEWEST,
        names=names,
        progress=lambda done, total: reporter.progress(done, total, f"seed {seed}: quantise"),
    )
    save_program(program, input_tensor(images[0], target.input_form), kept)
    return SeedRow(seed=seed, drawn=names, quantise_s=round(time.monotonic() - begun, 1))


class _Judge:
    """The held-out photographs with the float net's maps, made as they are needed and kept."""

    def __init__(self, module: nn.Module, paths: list[Path], target: Target, size: Size) -> None:
        self._module, self._paths, self._target, self._size = module, paths, target, size
        self._maps: dict[int, NDArray[np.float32]] = {}

    def seed(
        self, row: SeedRow, program: nn.Module, *, save: Callable[[], None], progress: Callable[[int, int], None]
    ) -> None:
        """Append what is missing to row.r; saved every 20 seconds, when interrupted, and at the end."""
        import torch

        from datk.evaluate.metrics import correlation
        from datk.quantize.calibration import input_tensor
        from datk.quantize.seed_spread import finite_or_none

        saved = time.monotonic()
        try:
            with torch.no_grad():
                for number in range(len(row.r), len(self._paths)):
                    begun = time.monotonic()
                    image = bucket_image(read_image(self._paths[number]), self._size)
                    pixels = input_tensor(image, self._target.input_form)
                    if number not in self._maps:
                        self._maps[number] = self._module(pixels)[0].numpy()
                    row.r.append(finite_or_none(correlation(program(pixels)[0].numpy(), self._maps[number])))
                    row.judge_s = round(row.judge_s + time.monotonic() - begun, 3)
                    progress(number + 1, len(self._paths))
                    if time.monotonic() - saved > SAVE_EVERY_S:
                        save()
                        saved = time.monotonic()
        except KeyboardInterrupt:
            save()
            raise
        save()
