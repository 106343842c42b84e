"""`datk quantize sensitivity`: measure the map of a checkpoint at one bucket, or go on where it stopped."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk import targets
from datk.artifact.files import sha256_file, sha256_json
from datk.depth.io_spec import Size
from datk.depth.preprocess import bucket_image, read_image
from datk.errors import UsageError
from datk.measure.device import host_info
from datk.pipeline.runs import STUDENT, newest_run
from datk.pipeline.stage import Reporter, source_digest
from datk.pipeline.steps import weights
from datk.pipeline.steps.photos import photo_set
from datk.pipeline.steps.weights import trained_size

if TYPE_CHECKING:
    from datk.quantize.sensitivity import SensitivityMeter
    from datk.quantize.sensitivity_map import SensitivityMap

FILE = "sensitivity.json"
SAVE_EVERY_S = 20.0


@dataclass(frozen=True)
class SensitivityRequest:
    """What was typed."""

    checkpoint: Path | None = None
    target: str | None = None
    """Whose activations and outputs to quantise; None: asymmetric inputs, the part all targets share."""
    input_size: Size | None = None
    images: Path | None = None
    count: int = 4
    out: Path | None = None
    seed: int = 0


def measure_sensitivity(request: SensitivityRequest, *, reporter: Reporter) -> tuple[SensitivityMap, Path]:
    """The complete map and its file. Saved every 20 seconds: after Ctrl-C the same request goes on.

    Raises UsageError, CheckpointError or DataError.
    """
    from datk.models.deployment import deployment_module
    from datk.quantize.sensitivity import SensitivityMeter

    checkpoint = request.checkpoint or newest_run() / STUDENT / "student.safetensors"
    loaded = weights.read(checkpoint)
    size = request.input_size or trained_size(checkpoint) or (518, 518)
    photos = photo_set(str(request.images) if request.images else "builtin", "train", request.count, seed=request.seed)
    images = [bucket_image(read_image(p), size) for p in photos.paths]
    form = _form(request.target)
    facts: dict[str, Any] = {
        "weights_sha256": loaded.sha256,
        "preset": loaded.preset.name,
        "input_size": list(size),
        "form": vars(form),
        "photographs": [{"name": p.name, "sha256": sha256_file(p)} for p in photos.paths],
    }
    key = sha256_json({**facts, "code": [source_digest("quantize/sensitivity.py"), source_digest("quantize/units.py")]})
    path = request.out or checkpoint.with_name(FILE)
    if path.suffix != ".json":
        raise UsageError(f"--out {path}: the map is a .json file", hint=f"--out {path.with_suffix('.json')}")
    module = deployment_module(loaded.net, size, "nhwc_uint8")
    meter = SensitivityMeter(module, images, input_form="nhwc_uint8", input_size=size, form=form)
    value = _begun(path, key, facts, meter, reporter)
    if not value.complete:
        meter.learn_ranges(images, lambda done, total: reporter.progress(done, total, "activation ranges"))
        _measure(value, meter, images, loaded.depth_kind, path, reporter)
    return value, path


def _form(target: str | None) -> Any:
    """How the named target quantises activations, from its own scheme."""
    from datk.quantize.sensitivity import Form

    if target is None:
        return Form()
    chosen = targets.get(target)
    if chosen.scheme is None:
        raise UsageError(f"target '{target}' has no quantised precision")
    quantizer = chosen.load(chosen.scheme)().quantizer
    return Form(symmetric_activations=quantizer.symmetric_activations, quantize_outputs=quantizer.quantize_outputs)


def _begun(path: Path, key: str, facts: dict[str, Any], meter: SensitivityMeter, reporter: Reporter) -> SensitivityMap:
    """The map as far as an earlier call came, or an empty one."""
    from datk.quantize.sensitivity_map import SensitivityMap, UnitRow, read_map

    if path.is_file():
        before = read_map(path)
        if before.key == key:
            reporter.note(f"going on with {path}")
            return before
        raise UsageError(
            f"{path} is the map of other weights, another size, other photographs or another datk",
            hint="name another file with --out, or delete it",
        )
    rows = [UnitRow(name=u.name, level=u.level, kind=u.kind) for u in meter.units]
    return SensitivityMap(key=key, complete=False, facts={**facts, "seconds": 0.0, "host": host_info()}, units=rows)


def _measure(
    value: SensitivityMap, meter: SensitivityMeter, images: Any, kind: Any, path: Path, reporter: Reporter
) -> None:
    """Photograph by photograph, unit by unit; the file is written every 20 s and at the end."""
    from datk.quantize.sensitivity_map import write_map

    rows = {(row.level, row.name): row for row in value.units}
    total = len(images) * len(meter.units)
    done = sum(len(row.error) for row in value.units)
    started = saved = time.monotonic()
    before = float(value.facts["seconds"])
    for number, image in enumerate(images):
        left = [u for u in meter.units if len(rows[u.level, u.name].error) <= number]
        if not left:
            continue
        for unit, figures in meter.measure(image, left, kind):
            row = rows[unit.level, unit.name]
            row.error.append(_finite(figures["error"]))
            row.abs_rel.append(_finite(figures["abs_rel"]))
            done += 1
            reporter.progress(done, total, f"photograph {number + 1}, {unit.level} {unit.name}")
            value.facts["seconds"] = round(before + time.monotonic() - started, 1)
            if time.monotonic() - saved > SAVE_EVERY_S:
                write_map(value, path)
                saved = time.monotonic()
    value.complete = True
    write_map(value, path)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
