"""datk bench"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datk.bench_builder.database import Database
    from datk.bench_builder.pictures import Picture
    from datk.cli.console import TerminalReporter

app = typer.Typer(
    help="Build a benchmark like DA-2K: plan, propose, annotate, stats, export. See docs/bench.md.",
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Argument(help="The benchmark's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


@app.callback()
def group() -> None:
    """Keeps every verb a subcommand."""


@app.command("plan", help="Start a benchmark, or say how far its images are.")
def plan(
    folder: Folder,
    name: Annotated[str | None, typer.Option(help="Name of a new benchmark. Default: the folder's.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Images a new benchmark aims at.")] = 1000,
    json: Json = False,
) -> None:
    """See help."""
    from datk.bench_builder.image_list import read_image_list
    from datk.bench_builder.plan import read_plan, write_draft
    from datk.cli.console import print_json, print_table, say

    drafted = write_draft(folder, name=name or folder.resolve().name, images=images)
    for path in drafted.written:
        say(f"wrote {path}")
    for path in drafted.kept:
        say(f"kept  {path}")
    read = read_plan(folder)
    listed = read_image_list(folder, scenes=read.scenes)
    counts = listed.counts(read.targets())
    if json:
        print_json(
            {
                "name": read.name,
                "scenes": {s: vars(c) for s, c in counts.items()},
                "missing": [i.path for i in listed.missing],
                "unlisted": list(listed.unlisted),
            }
        )
        return
    rows = [
        [s, str(c.target), str(c.listed), str(c.on_disk), "people only" if read.scenes[s].hand_picked else "experts"]
        for s, c in counts.items()
    ]
    total = [str(sum(getattr(c, f) for c in counts.values())) for f in ("target", "listed", "on_disk")]
    columns = ["scene", "target", "listed", "on disk", "pairs chosen by"]
    print_table(read.name, columns, [*rows, ["all", *total, ""]], numeric=(1, 2, 3))
    if listed.unlisted:
        say(
            f"{len(listed.unlisted)} pictures on disk have no line in images.csv and are not used: {listed.unlisted[0]}"
        )
    if listed.missing:
        say(f"{len(listed.missing)} listed pictures are not on disk yet, first {listed.missing[0].path}")


@app.command("propose", help="Find candidate points, let experts vote, queue the pairs they dissent on.")
def propose(
    folder: Folder,
    expert: Annotated[
        list[Path], typer.Option(help="A model that votes, any `datk validate` takes. Repeat it: the paper has four.")
    ],
    sam: Annotated[
        Path | None, typer.Option(help="Folder of a SAM (safetensors) for the key points. Default: superpixels.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(help="Checkpoints only: 518 or HxW.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    keep_easy: Annotated[bool, typer.Option("--keep-easy", help="Queue unanimous pairs as well, shown last.")] = False,
    json: Json = False,
) -> None:
    """See help."""
    from datk.bench_builder.database import Database
    from datk.bench_builder.keypoints import KeyPoints, SuperpixelPoints
    from datk.bench_builder.plan import read_plan
    from datk.bench_builder.propose import PAPERS_EXPERTS, as_json
    from datk.bench_builder.propose import propose as run
    from datk.cli.console import print_json, print_table, reporter, say
    from datk.depth.preprocess import parse_size
    from datk.errors import UsageError
    from datk.pipeline.bench_experts import experts_from

    plan = read_plan(folder)
    experts = experts_from(expert, parse_size(input_size) if input_size else None)
    finder: KeyPoints = SuperpixelPoints()
    if sam is not None:
        from datk.bench_builder.sam_keypoints import SamPoints

        finder = SamPoints(sam)
    if len(experts) != PAPERS_EXPERTS:
        say(f"{len(experts)} experts vote; the paper has {PAPERS_EXPERTS} of different kinds")
    db = Database(folder, create=True)
    with reporter() as terminal:
        registered = _register(db, folder, terminal)
        shots = [p for p in registered if not plan.scenes[p.scene].hand_picked]
        if not shots:
            raise UsageError(
                f"{folder}: no picture of a scene that experts may propose for", hint=f"datk bench plan {folder}"
            )
        done = run(db, shots, experts, finder, plan.pair_rules, seed=seed, keep_easy=keep_easy, reporter=terminal)
    if json:
        print_json(as_json(done))
        return
    columns = ["pictures", "drawn", "ratio too small", "unanimous", "dissent", "new in the queue"]
    cells = [done.pictures, done.drawn, done.near, done.easy, done.disputed, done.added]
    print_table(plan.name, columns, [[str(c) for c in cells]], numeric=tuple(range(6)))
    if not done.disputed and done.drawn:
        say(
            f"no dissent: {done.near} of {done.drawn} draws are below the depth ratio of "
            f"{plan.pair_rules.min_depth_ratio:g}, {done.easy} unanimous. Other experts, or a lower min_depth_ratio in "
            "plan.yaml, find more"
        )
    if done.without_points:
        say(f"{len(done.without_points)} pictures have fewer than two key points, first {done.without_points[0]}")
    by_hand = [name for name, scene in plan.scenes.items() if scene.hand_picked]
    say(f"people choose the pairs of: {', '.join(by_hand) or 'no scene'}; next: datk bench annotate {folder}")


people = typer.Typer(help="Who may annotate.", no_args_is_help=True)
app.add_typer(people, name="annotator")


@people.command("add", help="Add a person, or give a known one a new password.")
def annotator_add(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="Name to log in with.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
    ] = False,
) -> None:
    """See help."""
    import sys

    from datk.bench_builder.annotators import require_web, save_annotator
    from datk.bench_builder.database import Database
    from datk.bench_builder.plan import read_plan
    from datk.cli.console import say

    require_web()
    read_plan(folder)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True)
    new = save_annotator(Database(folder, create=True), name, password)
    say(f"{name} may annotate {folder}" if new else f"{name} has a new password; open sessions have ended")


@people.command("list", help="Names, one a line.")
def annotator_list(folder: Folder) -> None:
    """See help."""
    from datk.bench_builder.annotators import annotators
    from datk.bench_builder.database import Database

    for person in annotators(Database(folder)):
        typer.echo(person.name)


@app.command("annotate", help="Serve the annotation page on this machine.")
def annotate(
    folder: Folder,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than 127.0.0.1 are open to the network, unencrypted.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any free one.")] = 8642,
) -> None:
    """See help."""
    from datk.bench_builder.annotators import annotators, require_web
    from datk.bench_builder.database import Database
    from datk.bench_builder.plan import read_plan
    from datk.cli.console import reporter, say
    from datk.errors import UsageError

    require_web()
    from datk.bench_builder.web.serve import LOOPBACK, serve

    plan = read_plan(folder)
    db = Database(folder, create=True)
    if not annotators(db):
        raise UsageError(f"{folder}: nobody may annotate yet", hint=f"datk bench annotator add {folder} NAME")
    with reporter() as terminal:
        _register(db, folder, terminal)
    if host not in LOOPBACK:
        say(f"anybody who reaches {host} sees the login page, and passwords travel unencrypted; see docs/bench.md")
    serve(db, plan, host=host, port=port, ready=lambda url: typer.echo(f"annotate at {url}   (Ctrl-C ends it)"))


@app.command("stats", help="Scene shares, pair difficulty, annotator agreement, near-duplicates.")
def stats(folder: Folder, json: Json = False) -> None:
    """See help."""
    from datk.bench_builder.database import Database
    from datk.bench_builder.plan import read_plan
    from datk.bench_builder.stats import stats as count
    from datk.cli.bench_tables import print_stats
    from datk.cli.console import print_json

    made = count(Database(folder), read_plan(folder))
    if json:
        print_json(made.model_dump(mode="json"))
    else:
        print_stats(made)


@app.command("export", help="Write the accepted pairs as DA-2K's own JSON and folders.")
def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="New folder, or one of an earlier export.")],
    easy: Annotated[bool, typer.Option("--easy", help="Also accepted pairs the experts were unanimous on.")] = False,
) -> None:
    """See help."""
    from datk.bench_builder.database import Database
    from datk.bench_builder.export import export as write
    from datk.bench_builder.image_list import read_image_list
    from datk.bench_builder.plan import read_plan
    from datk.cli.console import say

    plan = read_plan(folder)
    listed = read_image_list(folder, scenes=plan.scenes)
    done = write(Database(folder), (*listed.present, *listed.missing), out, checkers=plan.checkers, easy=easy)
    say(f"{done.pairs} pairs on {done.images} images in {out}")
    if done.left_out:
        say("left out: " + ", ".join(f"{n} {standing}" for standing, n in done.left_out.items()))
    say(f"score a model on it: datk validate MODEL --bench da2k --data {out}")


def _register(db: Database, folder: Path, terminal: TerminalReporter) -> tuple[Picture, ...]:
    """Register what is listed and on disk; name what cannot be used."""
    from datk.bench_builder.image_list import read_image_list
    from datk.bench_builder.pictures import register
    from datk.bench_builder.plan import read_plan
    from datk.cli.console import say

    listed = read_image_list(folder, scenes=read_plan(folder).scenes)
    terminal.stage("register", "look at the pictures", "running")
    found = register(db, listed.present, progress=terminal.progress)
    terminal.stage("register", f"{len(found.pictures)} pictures", "done")
    for message in found.unreadable:
        say(f"not used: {message}")
    if listed.unlisted:
        say(f"not used: {len(listed.unlisted)} pictures without a line in images.csv, first {listed.unlisted[0]}")
    if listed.missing:
        say(f"not on disk yet: {len(listed.missing)} listed pictures, first {listed.missing[0].path}")
    return found.pictures
