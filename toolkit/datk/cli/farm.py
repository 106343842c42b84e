"""datk farm"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datk.farm.store import Store
    from datk.pipeline.farm.run import FarmResult

app = typer.Typer(help="Run artifacts on devices, score on this host, gate.", no_args_is_help=True)

Inventory = Annotated[Path | None, typer.Option("--inventory", help="devices.yaml. Default: ./devices.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
StorePath = Annotated[Path, typer.Option("--store", help="Folder of queue, results and history.")]
DEFAULT_STORE = Path("runs/.farm")


@app.command("run", help="Run a run's artifacts on devices, score them here, write 70-farm-DEVICE and gate.")
def run(
    devices: Annotated[list[str], typer.Option(help="Names, labels or kinds: A B, A,B or the option again.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[LABEL]...", help="More of --devices.")] = None,
    artifacts: Annotated[
        list[Path] | None, typer.Option(help="Run folder, or export folders of one run. Default: the newest run.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Only artifacts of this precision; repeat or separate by commas.")
    ] = None,
    inventory: Inventory = None,
    bench: Annotated[str | None, typer.Option(help="da2k, mini, real4. Default: the recipe's.")] = None,
    data: Annotated[Path | None, typer.Option(help="The benchmark's folder.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="How many photographs. Default: the recipe's.")] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Run or export folder to compare latency with. Default: the target's own float artifact."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds of candidate and baseline.")] = 10,
    runs: Annotated[int, typer.Option(min=1, help="Timed calls of each in a round.")] = 3,
    warmup: Annotated[int, typer.Option(min=0, help="Calls of each that are not timed.")] = 3,
    max_drop: Annotated[float, typer.Option(help="Largest accepted drop on the bench, percentage points.")] = 1.0,
    allow_few: Annotated[bool, typer.Option("--allow-few", help="Accept fewer than 50 photographs.")] = False,
    release: Annotated[str, typer.Option(help="Name kept in the history, for example v1.2.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Run again what has a result already.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write a JUnit XML file.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Also append a Markdown summary to this file.")] = None,
    store: StorePath = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """See help. Exit codes: 0 all measured and passed, 3 an artifact was rejected, 4 a device was out of reach."""
    import secrets

    from datk.cli.console import print_json, say
    from datk.cli.farm_table import farm_terminal
    from datk.farm.inventory import load_inventory
    from datk.farm.job import Timing
    from datk.pipeline.farm.request import FarmRequest, plan_farm
    from datk.pipeline.farm.run import run_farm
    from datk.report.build import build_report

    request = FarmRequest(
        devices=load_inventory(inventory).select(_words([*devices, *(more or [])])),
        artifacts=tuple(artifacts or ()),
        precisions=tuple(_words(precision or [])),
        baseline=baseline,
        bench=bench,
        data=data,
        count=count,
        timing=Timing(warmup=warmup, rounds=rounds, runs=runs),
        max_drop_pp=max_drop,
        allow_few=allow_few,
        store=store,
        release=release,
        salt=secrets.token_hex(8) if force else "",
    )
    plan = plan_farm(request)
    for line in plan.said:
        say(line)
    with farm_terminal() as terminal:
        result = run_farm(request, plan, reporter=terminal)
    paths = build_report(result.run_dir)
    _write_for_ci(result, junit, summary)
    if json:
        rows = [r.as_json() for r in result.rows]
        verdicts = [v.model_dump(mode="json") | {"headline": v.headline} for v in result.verdicts]
        print_json({"run": str(result.run_dir), "rows": rows, "verdicts": verdicts})
    else:
        _print_rows(result)
        for verdict in result.verdicts:
            say(verdict.headline)
        say(f"report: {paths.html}")
    _raise(result)


@app.command("devices", help="List the devices of devices.yaml; --probe asks each what it is.")
def devices(
    labels: Annotated[list[str] | None, typer.Argument(help="Names, labels or kinds. Default: all.")] = None,
    inventory: Inventory = None,
    probe: Annotated[bool, typer.Option("--probe", help="Connect, and say what is found there.")] = False,
    store: StorePath = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table, say
    from datk.farm.inventory import load_inventory
    from datk.pipeline.farm.devices import listed

    rows = listed(load_inventory(inventory).select(labels or ["all"]), probe=probe)
    if json:
        print_json([row.as_json() for row in rows])
        return
    columns = ["device", "kind", "labels", "figures", "latency gates", "state"]
    print_table("devices", columns, [row.cells() for row in rows])
    if (store / "farm.sqlite").is_file():
        for aside in _store(store).quarantined():
            say(f"set aside: {aside.device}, since {aside.since}: {aside.reason}")


@app.command(
    "matrix", help="CI jobs, one a recipe to build and one a device and recipe: GitHub's matrices as one line."
)
def matrix(
    devices: Annotated[list[str], typer.Option(help="Names, labels or kinds; repeat or separate by commas.")],
    recipe: Annotated[
        list[str] | None, typer.Option(help="Recipes to build; repeat or separate by commas. Default: quickstart.")
    ] = None,
    inventory: Inventory = None,
    untrusted: Annotated[
        bool, typer.Option("--untrusted/--trusted", help="A change from outside: hosted runners without secrets alone.")
    ] = True,
) -> None:
    """See help."""
    import json

    from datk.config.load import find_recipe
    from datk.farm.inventory import load_inventory
    from datk.pipeline.farm.devices import ci_matrix

    recipes = _words(recipe or ["quickstart"])
    for name in recipes:
        find_recipe(name)
    chosen = load_inventory(inventory).select(_words(devices))
    typer.echo(json.dumps(ci_matrix(chosen, untrusted=untrusted, recipes=recipes)))


@app.command("status", help="Jobs, newest last, and devices that are set aside.")
def status(
    device: Annotated[str | None, typer.Option(help="Only this device's.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many jobs.")] = 30,
    store: StorePath = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table, say

    opened = _store(store)
    rows, aside = opened.rows(device=device, last=last), opened.quarantined()
    if json:
        print_json({"jobs": [vars(r) for r in rows], "quarantined": [vars(q) for q in aside]})
        return
    cells = [[str(r.id), r.title, r.state, str(r.attempts), r.updated, r.error[:120]] for r in rows]
    print_table("jobs", ["job", "what", "state", "tries", "changed", "last word"], cells)
    for item in aside:
        say(f"set aside: {item.device}, since {item.since}: {item.reason}")


@app.command("logs", help="A job's story, and what its runtime printed on the device.")
def logs(
    job: Annotated[int, typer.Argument(help="Number from `datk farm status`.")], store: StorePath = DEFAULT_STORE
) -> None:
    """See help."""
    from datk.errors import UsageError
    from datk.farm.intake import read_log

    opened = _store(store)
    rows = opened.rows([job])
    if not rows:
        raise UsageError(f"no job {job}", hint="`datk farm status` lists them")
    typer.echo(f"{rows[0].title}: {rows[0].state}")
    for at, text in opened.events(job):
        typer.echo(f"{at}  {text}")
    if rows[0].folder:
        typer.echo(read_log(opened.results / rows[0].folder))


@app.command("cancel", help="Cancel queued jobs, and end running ones on their devices.")
def cancel(
    jobs: Annotated[list[int] | None, typer.Argument(help="Numbers from `datk farm status`.")] = None,
    device: Annotated[str | None, typer.Option(help="Every job of this device.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every job.")] = False,
    store: StorePath = DEFAULT_STORE,
) -> None:
    """See help."""
    from datk.cli.console import say
    from datk.errors import UsageError

    if not jobs and device is None and not everything:
        raise UsageError("nothing to cancel", hint="name job numbers, --device NAME or --all")
    opened = _store(store)
    chosen = list(jobs or [r.id for r in opened.rows(device=device, last=1_000_000)])
    if unknown := set(jobs or []) - {r.id for r in opened.rows(chosen)}:
        raise UsageError(f"no job {', '.join(map(str, sorted(unknown)))}", hint="`datk farm status` lists them")
    say(f"{opened.cancel(chosen)} jobs cancelled; a running one ends on its device within seconds")


@app.command("quarantine", help="Set a device aside for a while, or take it back.")
def quarantine(
    device: Annotated[str, typer.Argument(help="Its name.")],
    reason: Annotated[str | None, typer.Option(help="Why, with a link.")] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="For how long.")] = 24,
    release: Annotated[bool, typer.Option("--release", help="Take it back.")] = False,
    inventory: Inventory = None,
    store: StorePath = DEFAULT_STORE,
) -> None:
    """See help."""
    from datk.cli.console import say
    from datk.errors import UsageError
    from datk.farm.inventory import load_inventory
    from datk.farm.store import Store

    if not release:
        load_inventory(inventory).named(device)
    opened = Store(store)
    if release:
        say(f"{device} is back" if opened.release(device) else f"{device} was not set aside")
        return
    if reason is None:
        raise UsageError("a quarantine has a reason", hint="--reason 'fan broken, see ISSUE', or --release")
    opened.quarantine(device, reason, hours=hours)
    say(f"{device} is set aside for {hours:g} h: {reason}")


@app.command("history", help="Scored results, oldest first; as a table, CSV or an offline page with trends.")
def history(
    device: Annotated[str | None, typer.Option(help="Only this device's.")] = None,
    artifact: Annotated[str | None, typer.Option(help="Only this artifact's: TARGET-PRECISION.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a CSV file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page.")] = None,
    store: StorePath = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """See help."""
    from datk.artifact.files import write_text
    from datk.cli.console import print_json, print_table, say
    from datk.report.farm_page import dashboard, history_csv

    rows = _store(store).history(device=device, artifact=artifact)
    for path, text in ((csv, history_csv), (html, dashboard)):
        if path is not None:
            write_text(path, text(rows))
            say(f"written: {path}")
    if json:
        print_json(rows)
    elif csv is None and html is None:
        cells = [[r["at"], r["device"], r["artifact"], r["verdict"], r["release"] or r["run"]] for r in rows]
        print_table("history", ["when", "device", "artifact", "verdict", "release"], cells)


@app.command("compare", help="Two releases (or runs) on the same devices; exit code 3 when something got worse.")
def compare(
    before: Annotated[str | None, typer.Argument(help="Release or run. Default: the release before AFTER.")] = None,
    after: Annotated[str | None, typer.Argument(help="Release or run. Default: the newest results'.")] = None,
    store: StorePath = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """See help. Worse: a verdict that fell, or more fallback operators. Latencies are shown; `farm run` gates them."""
    from datk.cli.console import print_json, print_table
    from datk.errors import GateFailed, UsageError
    from datk.report.farm_page import COMPARED, changes, newest_and_release_before

    rows = _store(store).history()
    if rows and after is None:
        after, last = newest_and_release_before(rows)
        before = before or last
    if before is None or after is None:
        raise UsageError(
            f"no release before {after} to compare with" if rows else "no results yet",
            hint="`datk farm run --release NAME` names results, `datk farm history` lists them",
        )
    found = changes(rows, before, after)
    if not found:
        raise UsageError(f"no results of {before} or {after}", hint="`datk farm history` lists releases and runs")
    if json:
        print_json([vars(c) | {"worse": c.worse} for c in found])
    else:
        cells = [[c.device, c.artifact, *c.cells(), c.worse or ""] for c in found]
        print_table(f"{before} → {after}", ["device", "artifact", *[h for _, h, _ in COMPARED], "worse"], cells)
    if worse := [f"  {c.artifact} on {c.device}: {c.worse}" for c in found if c.worse]:
        raise GateFailed(f"{len(worse)} got worse from {before} to {after}\n" + "\n".join(worse))


def _words(values: list[str]) -> list[str]:
    return [word.strip() for value in values for word in value.split(",") if word.strip()]


def _store(root: Path) -> Store:
    """An existing store. Raises UsageError when nothing was ever run."""
    from datk.errors import UsageError
    from datk.farm.store import Store

    if not (root / "farm.sqlite").is_file():
        raise UsageError(f"{root}: no farm has run here yet", hint="`datk farm run --devices local`")
    return Store(root)


_SHOWN = (
    ("bench_accuracy", "bench %"), ("bench_drop_pp", "drop pp"), ("correlation_vs_float_median", "r median"),
    ("latency_p50_ms", "p50 ms"), ("latency_p90_ms", "p90 ms"), ("load_ms", "load ms"),
)  # fmt: skip


def _print_rows(result: FarmResult) -> None:
    from datk.cli.console import print_table, say
    from datk.report.table import never_rounded_up

    rows: list[list[str]] = []
    for row in result.rows:
        cells = []
        for name, _ in _SHOWN:
            metric = row.metrics.get(name)
            if metric is None or metric.value is None:
                cells.append("–")
            else:
                cut = name.startswith("correlation")
                cells.append(never_rounded_up(metric.value) if cut else f"{metric.value:.4g}")
        rows.append([row.device, row.artifact, row.status, *cells])
    columns = ["device", "artifact", "verdict", *[heading for _, heading in _SHOWN]]
    print_table("on devices", columns, rows, numeric=tuple(range(3, len(columns))))
    for row in result.rows:
        for reason in row.reasons if row.status != "passed" else []:
            say(f"{row.artifact} on {row.device}: {row.status}: {reason}")
    for label in dict.fromkeys(row.label for row in result.rows if row.metrics):
        say(f"judged on this host from the maps of {label}")


def _write_for_ci(result: FarmResult, junit: Path | None, summary: Path | None) -> None:
    from datk.artifact.files import write_text
    from datk.report.farm_ci import junit_xml, markdown_summary

    rows: list[dict[str, Any]] = [r.as_json() for r in result.rows]
    if junit is not None:
        write_text(junit, junit_xml(rows, run=result.run_dir.name))
    if summary is not None:
        with summary.open("a", encoding="utf-8") as handle:
            sentences = [v.headline for v in result.verdicts]
            handle.write(markdown_summary(rows, run=result.run_dir.name, verdicts=sentences))


def _raise(result: FarmResult) -> None:
    """Raises GateFailed (3) when an artifact was rejected, EnvironmentLacks (4) when one could not be measured."""
    from datk.errors import EnvironmentLacks, GateFailed

    if result.rejected:
        lines = [f"  {r.artifact} on {r.device}: {reason}" for r in result.rejected for reason in r.reasons]
        raise GateFailed(f"{len(result.rejected)} artifact(s) rejected\n" + "\n".join(lines))
    if result.unmeasured:
        lines = [f"  {r.artifact} on {r.device}: {'; '.join(r.reasons)}" for r in result.unmeasured]
        raise EnvironmentLacks(
            f"{len(result.unmeasured)} artifact(s) not measured\n" + "\n".join(lines),
            hint="the same command tries them again; `datk farm quarantine DEVICE --release` takes a device back",
        )
