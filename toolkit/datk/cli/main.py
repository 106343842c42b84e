"""The `datk` command. Imports no torch and no pydantic: each command imports what it needs when it runs."""

from __future__ import annotations

import errno
import sys
import time
import traceback
from typing import NoReturn

import typer

from datk.cli import (
    bench,
    data,
    distill,
    doctor,
    export,
    farm,
    predict,
    promote,
    pseudo_label,
    quantize,
    recipes,
    report,
    run,
    sign,
    targets,
    train,
    validate,
    verify,
)
from datk.cli.launch import process_number
from datk.errors import DatkError, EnvironmentLacks
from datk.measure.heap import keep_freed_memory

GRACE_S = 10.0
"""How long another process than the first keeps an error to itself: mostly the first has the same one, tells it and
ends, upon which torchrun ends the others."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

app = typer.Typer(
    name="datk",
    help="Take Depth Anything V2 to edge devices, and prove that what arrives there is right.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.command("run", help=run.HELP)(run.command)
app.command("distill", help=distill.HELP)(distill.command)
app.command("export", help=export.HELP)(export.command)
app.command("validate", help=validate.HELP)(validate.command)
app.command("verify", help=verify.HELP)(verify.command)
app.command("sign", help=sign.HELP)(sign.command)
app.command("predict", help=predict.HELP)(predict.command)
app.command("promote", help=promote.HELP)(promote.command)
app.add_typer(quantize.app, name="quantize")
app.command("pseudo-label", help=pseudo_label.HELP)(pseudo_label.command)
app.command("report", help=report.HELP)(report.command)
app.add_typer(train.app, name="train")
app.add_typer(data.app, name="data")
app.add_typer(farm.app, name="farm")
app.add_typer(recipes.app, name="recipes")
app.add_typer(targets.app, name="targets")
app.add_typer(doctor.app, name="doctor")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run, turning a user's mistake into one message and an exit code, and a bug into a traceback."""
    keep_freed_memory()
    try:
        app()
    except DatkError as error:
        who = f"process {process_number()}: " if process_number() else ""
        if who:
            time.sleep(GRACE_S)
        print(f"{who}error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_FULL:
            _end_as_a_bug()
        where = f" writing {error.filename}" if error.filename else ""
        print(f"error: the disk is full{where}; nothing half-written counts", file=sys.stderr)
        print("hint: free some space and run the same command again, it continues where it stopped", file=sys.stderr)
        sys.exit(EnvironmentLacks.exit_code)
    except Exception:  # noqa: BLE001 - the last line of defence: our bug, shown whole
        _end_as_a_bug()


def _end_as_a_bug() -> NoReturn:
    """The exception at hand, whole, and exit code 1."""
    traceback.print_exc()
    print("This is a bug in datk; please report it with the lines above.", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
