"""datk validate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

HELP = """Measure artifacts and checkpoints on a benchmark, against the float net where there is one, and gate.

Without a model it takes every artifact of the newest run. Example: datk validate --bench da2k
"""


def command(
    models: Annotated[list[Path] | None, typer.Argument(help="Artifacts, export folders, checkpoints.")] = None,
    bench: Annotated[str, typer.Option(help="da2k, mini (built in), real4 (built in).")] = "da2k",
    data: Annotated[Path | None, typer.Option(help="The benchmark's folder. Default for da2k: ./data/da2k.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Photographs for the dense comparison. Default: built in.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many photographs.")] = 64,
    reference: Annotated[
        Path | None, typer.Option(help="Float checkpoint to compare with. Default: the run's student.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Teacher: checkpoint, hf:FOLDER_OR_ID or marigold:... Default: the run's."),
    ] = None,
    input_size: Annotated[str | None, typer.Option(help="Checkpoints only: 518 or HxW.")] = None,
    max_drop: Annotated[
        float, typer.Option(help="Largest accepted drop on the bench, percentage points, paired.")
    ] = 1.0,
    allow_few: Annotated[
        bool, typer.Option("--allow-few", help="Accept fewer than 50 photographs; the verdict says so.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import print_json, print_table, reporter, say
    from datk.depth.preprocess import parse_size
    from datk.errors import GateFailed
    from datk.pipeline.scenes import scene_figures
    from datk.pipeline.validating import ValidateRequest, as_json, models_of, validate

    request = ValidateRequest(
        models=tuple(models or ()),
        bench=bench,
        data=data,
        images=images,
        count=count,
        reference=reference,
        teacher=teacher,
        input_size=parse_size(input_size) if input_size else None,
        max_drop_pp=max_drop,
        allow_few=allow_few,
    )
    chosen, said = models_of(request)
    for line in said:
        say(line)
    with reporter() as terminal:
        judged = validate(request, chosen, reporter=terminal)
    if json:
        print_json([as_json(item) for item in judged])
    else:
        columns = ["bench_accuracy", "bench_drop_pp", "correlation_vs_float_median", "latency_p50_ms"]
        rows = []
        for item in judged:
            cells = [_cell(item.metrics[c]) if c in item.metrics else "not measured" for c in columns]
            rows.append([item.name, item.label, item.verdict.status if item.verdict else "not judged", *cells])
        print_table(
            f"{bench}", ["model", "judged by", "verdict", f"{bench} %", "drop pp", "corr. vs float", "ms"], rows
        )
        for item in judged:
            _print_scenes(item.name, scene_figures(item.details))
    rejected = [(i.name, r) for i in judged if i.verdict and i.verdict.status == "rejected" for r in i.verdict.reasons]
    if rejected:
        raise GateFailed("rejected\n" + "\n".join(f"  {name}: {reason}" for name, reason in rejected))


MANY_SCENES = 12
"""More than these are left to --json and the report."""


def _print_scenes(model: str, figures: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Scene by scene: the benchmark's own figure with its interval, and those beside it."""
    from datk.cli.console import print_table

    own = next(iter(figures.values()), {})
    if not 1 < len(own) <= MANY_SCENES:
        return
    rows = []
    for scene, share in own.items():
        low, high = share["interval95"]
        others = [_percent(figure.get(scene, {}).get("accuracy_percent")) for figure in list(figures.values())[1:]]
        rows.append([scene, f"{_percent(share['accuracy_percent'])} [{low:.1f}, {high:.1f}]", str(share["n"]), *others])
    columns = ["scene", f"{next(iter(figures))} %", "pairs", *[f"{name} %" for name in list(figures)[1:]]]
    print_table(f"{model}, scene by scene", columns, rows)


def _percent(value: float | None) -> str:
    return "not scored" if value is None else f"{value:.1f}"


def _cell(metric: object) -> str:
    from datk.artifact.manifest import Metric

    assert isinstance(metric, Metric)
    if metric.value is None:
        return "not measured"
    text = f"{metric.value:.4g}"
    if metric.interval95 is not None:
        text += f" [{metric.interval95[0]:.4g}, {metric.interval95[1]:.4g}]"
    return text
