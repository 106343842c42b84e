"""datk doctor"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Ask what is wrong: weights, an artifact.", no_args_is_help=True)


class Kind(StrEnum):
    """What a checkpoint returns."""

    relative = "relative"
    metric = "metric"


@app.command("weights", help="Check a checkpoint: shapes, hash, finite values, published golden values.")
def weights(
    file: Annotated[Path, typer.Argument(help="Checkpoint (.pth, .safetensors).")],
    image: Annotated[
        Path | None, typer.Option(help="COCO val2017 000000039769.jpg, for the published golden values.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="What the weights return, where the file does not tell.")] = None,
    max_depth: Annotated[
        float | None, typer.Option(min=0.001, help="Metres, of metric weights that do not tell.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table
    from datk.errors import GateFailed
    from datk.models.golden import check_weights
    from datk.pipeline.steps.weights import KINDS

    report = check_weights(file, image=image, depth_kind=KINDS[kind.value] if kind else None, max_depth_m=max_depth)
    if json:
        print_json(report.as_json())
    else:
        print_table(f"{file.name}", ["check", "status", "detail"], report.rows())
    if not report.passed:
        raise GateFailed(f"{file}: the weights do not reproduce what was published")


@app.command("artifact", help="Find the first layer of a saved artifact that does not do what its source does.")
def artifact(
    path: Annotated[Path, typer.Argument(help="Export folder or artifact (.onnx, .tflite, .mlpackage).")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Float weights it was made from. Default: the student of its run.")
    ] = None,
    photo: Annotated[Path | None, typer.Option(help="Photograph to look at. Default: a built-in one.")] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="What runs it elsewhere, NAME=VERSION: tensorrt=10.3.0. Repeat.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table, say
    from datk.errors import GateFailed, UsageError
    from datk.pipeline.diagnosing import diagnose_artifact

    tools = {}
    for item in runtime or []:
        name, equals, version = item.partition("=")
        if not (name and equals and version):
            raise UsageError(f"--runtime {item}: expected NAME=VERSION", hint="--runtime tensorrt=10.3.0")
        tools[name] = version
    found = diagnose_artifact(path, checkpoint=checkpoint, photo=photo, tools=tools)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        rows = [[f.layer, f"{f.op} {f.which}".strip(), _percent(f.own_error), f.made_by or "-"] for f in found.findings]
        rows += [[e.layer, e.op, _percent(e.own_error), "-"] for e in found.largest if not found.findings]
        title = "wrong layers" if found.findings else "largest own errors, none out of line"
        print_table(f"{path.name}: {title}", ["layer", "operation", "own error", "in the file"], rows, numeric=(2,))
        say(f"{found.n_found} of {found.n_layers} operations found in the file, judged by {found.judged_by}")
        for line in found.sentences():
            say(line)
    if found.findings or any(k.certain for k in found.known):
        raise GateFailed(f"{path}: {found.sentences()[0]}")


def _percent(error: float | None) -> str:
    return "not there" if error is None else f"{100 * error:.2g} %"
