"""The page of a `datk validate --keep` record: figures beside the paper's, scene by scene, the worst pairs drawn."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from datk.artifact.files import write_text
from datk.depth.preprocess import decode_image
from datk.depth.runner import ImageU8
from datk.errors import DatkError, UsageError
from datk.evaluate import benchmarks
from datk.evaluate.benchmarks.base import Benchmark
from datk.evaluate.benchmarks.dense import DenseResult
from datk.evaluate.benchmarks.pairs import RIGHT, UNSCORED, BenchResult, PairSet, PointPair, Share
from datk.evaluate.comparison import Difference, compare
from datk.report.build import environment
from datk.report.judged_file import ErrorPictures, JudgedFile, JudgedRow, read_judged
from datk.report.paper_tables import quoted_for
from datk.report.worst_images import reference_of, worst_images

DRAWN = 12
"""Pairs drawn on their photograph at most."""
SIDE = 420
MEASURED, QUOTED = "measured here", "quoted from the paper"


@dataclass(frozen=True)
class Line:
    """A row of the main table. source: MEASURED or QUOTED."""

    model: str
    source: str
    cells: tuple[str, ...]
    detail: str
    gates: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SceneRow:
    """One scene. cells: for each model (text, whether it is worse than the reference by the statistics)."""

    scene: str
    n: int
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DrawnPair:
    """A pair that a model gets wrong and its reference right."""

    uri: str
    caption: str


@dataclass(frozen=True)
class JudgedPage:
    """All the template shows."""

    title: str
    bench: str
    protocols: tuple[str, ...]
    notes: tuple[str, ...]
    pairs: bool
    """Whether it is a benchmark of point pairs."""
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    scene_models: tuple[str, ...]
    scenes: tuple[SceneRow, ...]
    changes: tuple[tuple[str, str, str], ...]
    """Of two records: (model, status, sentence)."""
    drawn: tuple[DrawnPair, ...]
    worst: tuple[tuple[str, str], ...]
    """Dense: (image, what changed)."""
    error_maps: tuple[ErrorPictures, ...]
    """Dense: the worst of them, drawn."""
    problems: tuple[tuple[str, str], ...]
    not_drawn: str


def write_judged_page(path: Path, out: Path, *, before: Path | None = None) -> JudgedPage:
    """Write one HTML file that opens offline. before: an earlier record that `path` is compared with.

    Raises DataError for a file that is no record, UsageError when the two are of different benchmarks.
    """
    page = judged_page(read_judged(path), read_judged(before) if before is not None else None)
    text = environment().get_template("judged.html.j2").render(p=page, written_at=_now(), measured=MEASURED)
    write_text(out, text)
    return page


def judged_page(judged: JudgedFile, before: JudgedFile | None = None) -> JudgedPage:
    """Everything the page shows. The worst pairs need the benchmark's pictures where the record says they are."""
    if before is not None and before.bench != judged.bench:
        raise UsageError(f"the records are of {before.bench} and {judged.bench}: nothing to compare")
    columns = _columns(judged)
    reference = reference_of(judged)
    drawn, not_drawn = _drawn(judged, reference)
    return JudgedPage(
        title=f"{judged.bench}: {len(judged.rows)} model{'s' if len(judged.rows) != 1 else ''}",
        bench=judged.bench,
        protocols=tuple(dict.fromkeys(row.result.protocol for row in judged.rows)),
        notes=judged.notes,
        pairs=judged.rows[0].pairs is not None,
        columns=columns,
        lines=(*(_measured(row, columns) for row in judged.rows), *_quoted(judged.bench, columns)),
        scene_models=tuple(row.name for row in judged.rows),
        scenes=_scenes(judged, reference),
        changes=_changes(judged, before) if before is not None else (),
        drawn=drawn,
        worst=tuple((w.image, w.text) for w in worst_images(judged, DRAWN) if w.reference),
        error_maps=judged.error_maps,
        problems=tuple((row.name, problem) for row in judged.rows for problem in row.problems),
        not_drawn=not_drawn,
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _columns(judged: JudgedFile) -> tuple[str, ...]:
    result = judged.rows[0].result
    if isinstance(result, BenchResult):
        return ("accuracy", *result.scenes) if 1 < len(result.scenes) <= 12 else ("accuracy",)
    return tuple(dict.fromkeys(name for row in judged.rows if row.dense for name in _first(row.dense)))


def _first(result: DenseResult) -> dict[str, float]:
    return next(iter(result.figures.values()))


def _measured(row: JudgedRow, columns: Sequence[str]) -> Line:
    if row.pairs is not None:
        shares = {"accuracy": row.pairs.overall, **row.pairs.scenes}
        cells = tuple(
            "–" if c not in shares or (a := shares[c].accuracy) is None else f"{100 * a:.1f}" for c in columns
        )
    else:
        assert row.dense is not None
        figures = _first(row.dense)
        cells = tuple(f"{figures[c]:.4g}" if c in figures else "–" for c in columns)
    detail = "; ".join(filter(None, [f"judged by {row.judged_by}", row.denominator, row.words]))
    return Line(row.name, MEASURED, cells, detail, tuple((g.status, g.detail) for g in row.gates))


def _quoted(bench: str, columns: Sequence[str]) -> list[Line]:
    return [
        Line(
            quoted.model,
            QUOTED,
            tuple(f"{quoted.figures[c]:g}" if c in quoted.figures else "–" for c in columns),
            f"Depth Anything V2, {quoted.table}",
        )
        for quoted in quoted_for(bench)
    ]


def _scenes(judged: JudgedFile, reference: JudgedRow | None) -> tuple[SceneRow, ...]:
    """Scene by scene, for every model; nothing for a set of one scene."""
    first = judged.rows[0].result
    counts = {s: share.n if isinstance(share, Share) else int(share["n"]) for s, share in first.scenes.items()}
    if isinstance(first, DenseResult) and len(counts) < 2:
        return ()
    rows = []
    for scene, count in counts.items():
        cells = []
        for row in judged.rows:
            value = _scene_figure(row, scene)
            change = _scene_difference(row, reference, scene)
            mark = "" if change is None or not change.distinguishable else "better" if change.better else "worse"
            digits = ".1f" if row.pairs is not None else ".4g"
            text = "–" if value is None else f"{value:{digits}}"
            if change is not None:
                shift = change.value / (100 if row.dense and change.unit == "pp" else 1)
                text += f" ({shift:+{digits}})"
            cells.append((text, mark))
        rows.append(SceneRow(scene, count, tuple(cells)))
    return tuple(rows)


def _scene_figure(row: JudgedRow, scene: str) -> float | None:
    """Percent of the scene's pairs, or the mean of a dense benchmark's first figure over its images."""
    if row.pairs is not None:
        share = row.pairs.scenes.get(scene)
        return None if share is None or share.accuracy is None else 100 * share.accuracy
    assert row.dense is not None
    return row.dense.scenes.get(scene, {}).get(row.metric)


def _scene_difference(row: JudgedRow, reference: JudgedRow | None, scene: str) -> Difference | None:
    """The model against the reference on one scene's images."""
    if reference is None or reference is row:
        return None
    try:
        return compare(_only(row.result, scene), _only(reference.result, scene))
    except DatkError:
        return None


def _only(result: BenchResult | DenseResult, scene: str) -> BenchResult | DenseResult:
    if isinstance(result, DenseResult):
        images = {key: figures for key, figures in result.images.items() if result.image_scenes.get(key) == scene}
        return result.model_copy(update={"images": images})
    kept = {path: o for path, o in result.outcomes.items() if Path(path).parent.name == scene}
    return result.model_copy(update={"outcomes": kept})


def _changes(judged: JudgedFile, before: JudgedFile) -> tuple[tuple[str, str, str], ...]:
    old = {row.name: row for row in before.rows}
    lines: list[tuple[str, str, str]] = []
    for row in judged.rows:
        if row.name not in old:
            lines.append((row.name, "new", "not in the earlier record"))
            continue
        earlier = old[row.name].result.model_copy(update={"runner": "the earlier record"})
        change = compare(row.result, earlier)
        status = "same" if not change.distinguishable else "better" if change.better else "worse"
        lines.append((row.name, status, change.words))
    lines += [(name, "gone", "only in the earlier record") for name in old if name not in {r.name for r in judged.rows}]
    return tuple(lines)


def _drawn(judged: JudgedFile, reference: JudgedRow | None) -> tuple[tuple[DrawnPair, ...], str]:
    """The worst pairs on their photographs: images with the most regressions first; and why none, if so."""
    bench = benchmarks.available().get(judged.bench)
    if reference is None or reference.pairs is None or not isinstance(bench, Benchmark):
        return (), ""
    lost: list[tuple[int, str, int, str]] = []
    for row in judged.rows:
        if row is reference or row.pairs is None:
            continue
        for path, outcomes in row.pairs.outcomes.items():
            theirs = reference.pairs.outcomes.get(path, "")
            wrong = [
                k
                for k, (a, b) in enumerate(zip(outcomes, theirs, strict=False))
                if b == RIGHT and a != RIGHT and a not in UNSCORED
            ]
            lost += [(-len(wrong), path, k, row.name) for k in wrong]
    if not lost:
        return (), f"no pair that {reference.name} has right and another model wrong"
    try:
        pairs = bench.load(Path(judged.data) if judged.data else None)
    except DatkError as error:
        return (), f"{len(lost)} regressions are not drawn: the benchmark's pictures are not here ({error.message})"
    found = {image.path: image for image in pairs.images}
    drawn = []
    for _, path, k, model in sorted(lost)[:DRAWN]:
        picture = _picture(pairs, path, found[path].pairs[k]) if path in found else None
        if picture is not None:
            drawn.append(DrawnPair(picture, f"{path}: {model} wrong, {reference.name} right"))
    return tuple(drawn), ""


def _picture(pairs: PairSet, path: str, pair: PointPair) -> str | None:
    """Data URI of the photograph with the nearer point ringed green and the farther one red; None when unreadable."""
    try:
        photo = decode_image(pairs.files.read(path), name=path)
    except DatkError:
        return None
    if pairs.change is not None:
        photo = pairs.change.apply(photo)
    ok, data = cv2.imencode(".jpg", draw_pair(photo, pair)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}" if ok else None


def draw_pair(photo: ImageU8, pair: PointPair) -> ImageU8:
    """(H, W, 3) -> the photograph at most SIDE pixels long with both points: near green ring, far red cross."""
    scale = min(1.0, SIDE / max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    out = np.ascontiguousarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA))
    near, far = (tuple(round(v * scale) for v in reversed(p)) for p in (pair.nearer, pair.farther))
    cv2.line(out, near, far, (255, 255, 255), 1, cv2.LINE_AA)
    for colour, width in (((255, 255, 255), 5), ((0, 158, 115), 3)):
        cv2.circle(out, near, 8, colour, width, cv2.LINE_AA)
    for colour, width in (((255, 255, 255), 5), ((213, 94, 0), 3)):
        cv2.drawMarker(out, far, colour, cv2.MARKER_TILTED_CROSS, 15, width, cv2.LINE_AA)
    return out
