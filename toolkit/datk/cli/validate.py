"""datk validate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datk.pipeline.validating import Judged

HELP = """Score models side by side on a benchmark; artifacts also against their float net, with gates.

A model is an artifact, an export folder, a checkpoint, hf:FOLDER_OR_ID, marigold:FOLDER_OR_ID, or preds:DIR, the
maps of any other program. Without one: every artifact of the newest run. Answers are kept: run it again to continue.

Example: datk validate a.pth hf:Intel/dpt-large preds:geowizard --bench da2k --gate "da2k>=-0.5pp vs a.pth"
"""
GATE = (
    'FIGURE>=NUMBER[pp|%] [vs NAME] [surely|unless noise], such as "da2k>=-0.5pp vs float". Repeat it. '
    "Grammar: docs/judge.md."
)


def command(
    models: Annotated[list[str] | None, typer.Argument(help="Models to judge side by side.")] = None,
    bench: Annotated[
        str,
        typer.Option(
            help="Pairs: da2k, da2k_dark|fog|snow|blur, mini, real4 (built in). Dense: kitti_garg, nyu_raw_eigen, "
            "sintel, sintel_near, eth3d, diode_indoor, moge, rgbd, mattes, flicker."
        ),
    ] = "da2k",
    data: Annotated[
        Path | None, typer.Option(help="The benchmark's folder or zip. Default for da2k: ./data/da2k.")
    ] = None,
    list_: Annotated[Path | None, typer.Option("--list", help="Dense: text file of the images to score.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Dense: masks of glass and mirrors, <image path>.png.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Photographs for the comparison with the float net. Default: built in.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many photographs.")] = 64,
    reference: Annotated[
        Path | None, typer.Option(help="Float checkpoint to compare with. Default: the run's student.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Teacher: checkpoint, hf:FOLDER_OR_ID or marigold:... Default: the run's."),
    ] = None,
    versus: Annotated[
        str | None,
        typer.Option("--vs", help="Model the others are compared with. Default: the float net, else the first."),
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(help="Checkpoints only: 518 or HxW, a bucket; or 518,1036,2072: each by the official rule."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="Largest accepted drop of an artifact on the bench, percentage points, paired.")
    ] = 1.0,
    allow_few: Annotated[
        bool, typer.Option("--allow-few", help="Accept fewer than 50 photographs; the verdict says so.")
    ] = False,
    gate: Annotated[list[str] | None, typer.Option(help=GATE)] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that score images.")] = 1,
    answers: Annotated[Path, typer.Option(help="Where scores of images are kept, by content.")] = Path(
        "runs/judged/answers"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Use and keep no answers.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Keep all figures in FILE.json, for `datk report`.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown summary.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="With several input sizes: the figure drawn over them, as .svg or .png.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.artifact.files import write_text
    from datk.cli.console import print_json, reporter, say
    from datk.depth.preprocess import parse_size
    from datk.errors import GateFailed, UsageError
    from datk.pipeline.side_by_side import keep as keep_record
    from datk.pipeline.side_by_side import record, told
    from datk.pipeline.validating import ValidateRequest, as_json, models_of, validate
    from datk.report.ci import junit as junit_text
    from datk.report.ci import markdown as markdown_text
    from datk.report.resolution import draw_sizes

    sizes = tuple(s.strip() for s in input_size.split(",")) if input_size and "," in input_size else ()
    if picture is not None and len(sizes) < 2:
        raise UsageError("--picture needs several sizes", hint="--input-size 518,1036,2072")
    request = ValidateRequest(
        models=tuple(Path(m) for m in models or ()),
        bench=bench,
        data=data,
        listing=list_,
        masks=masks,
        images=images,
        count=count,
        reference=reference,
        teacher=teacher,
        input_size=parse_size(input_size) if input_size and not sizes else None,
        sizes=tuple(filter(None, sizes)),
        max_drop_pp=max_drop,
        gates=tuple(gate or ()),
        versus=versus,
        allow_few=allow_few,
        jobs=jobs,
        cache=None if fresh else answers,
    )
    chosen, said = models_of(request)
    for line in said:
        say(line)
    with reporter() as terminal:
        judged = validate(request, chosen, reporter=terminal)
    items = [j.compared for j in judged if j.compared is not None]
    not_run = {j.name: j.not_run for j in judged if j.compared is None}
    protocol = items[0].result.protocol
    if keep is not None:
        keep_record(keep, items, request.task, versus, not_run)
    if junit is not None:
        write_text(junit, junit_text(bench, protocol, told(items, not_run)))
    if markdown is not None:
        write_text(markdown, markdown_text(bench, protocol, told(items, not_run)))
    if picture is not None:
        draw_sizes(record(items, request.task, versus), picture)
    if json:
        print_json([as_json(item) for item in judged])
    else:
        _print(bench, [j for j in judged if j.compared is not None])
        for name, reason in not_run.items():
            say(f"{name}: unverified, not measured: {reason}")
    rejected = [(i.name, r) for i in judged if i.verdict and i.verdict.status == "rejected" for r in i.verdict.reasons]
    if rejected:
        raise GateFailed("rejected\n" + "\n".join(f"  {name}: {reason}" for name, reason in rejected))


MANY_SCENES = 12
"""More than these are left to --json and the report."""
COLUMNS = ("bench_drop_pp", "correlation_vs_float_median", "latency_p50_ms")


def _print(bench: str, judged: list[Judged]) -> None:
    """The table with its protocol, what it is over, the differences in words, and scene by scene."""
    from datk.cli.console import RESULT, print_table
    from datk.pipeline.scenes import scene_figures
    from datk.pipeline.side_by_side import told

    compared = [j.compared for j in judged if j.compared is not None]
    models = told(compared)
    columns = list(dict.fromkeys(c for m in models for c, _ in m.figures))
    gated = any(j.verdict for j in judged)
    floats = any(name in j.metrics and j.metrics[name].value is not None for j in judged for name in COLUMNS)
    rows = []
    for item, model in zip(judged, models, strict=True):
        figures = dict(model.figures)
        row = [model.name, model.judged_by, *[figures.get(c, "-") for c in columns], model.denominator]
        row += [item.verdict.status if item.verdict else "not judged"] if gated else []
        row += [_cell(c, item.metrics[c]) if c in item.metrics else "not measured" for c in COLUMNS] if floats else []
        rows.append(row)
    headings = ["model", "judged by", *columns, "scored", *(["verdict"] if gated else [])]
    print_table(bench, headings + (["drop pp", "corr. vs float", "ms"] if floats else []), rows)
    results = [c.result for c in compared]
    for protocol in dict.fromkeys(r.protocol for r in results):
        RESULT.print(f"protocol: {protocol}", markup=False, soft_wrap=True)
    for result in results:
        for variant, words in getattr(result, "alignment", {}).items():
            RESULT.print(f"{result.runner}, {variant}: {words}", markup=False, soft_wrap=True)
    for model in models:
        if model.versus:
            RESULT.print(f"{model.name}: {model.versus}", markup=False, soft_wrap=True)
        for line in (*(f"gate {g.status}: {g.detail}" for g in model.gates), *model.problems):
            RESULT.print(f"{model.name}: {line}", markup=False, soft_wrap=True)
    for note in results[0].notes:
        RESULT.print(f"note: {note}", markup=False, soft_wrap=True)
    for item in judged:
        _print_scenes(item.name, scene_figures(item.details))


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


def _cell(name: str, metric: object) -> str:
    from datk.artifact.manifest import Metric
    from datk.report.table import never_rounded_up

    assert isinstance(metric, Metric)
    if metric.value is None:
        return "not measured"
    text = never_rounded_up(metric.value) if name.startswith("correlation") else f"{metric.value:.4g}"
    if metric.interval95 is not None:
        text += f" [{metric.interval95[0]:.4g}, {metric.interval95[1]:.4g}]"
    return text
