"""What the documents say is so: the command page is current, README's lines parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "recipes").glob("*.md"))]


def lines_with_datk() -> list[str]:
    found = []
    for page in [*PAGES[:1], ROOT / "recipes" / "README.md"]:
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            found += [line.split(" && ")[0].split(" > ")[0] for line in block.splitlines() if line.startswith("datk ")]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return found + [code for code in re.findall(r"`(datk [^`]+)`", text) if "NAME" not in code]


def test_the_command_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_cli_page.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_readme_shows_the_commands_people_type() -> None:
    text = " ".join(lines_with_datk())
    for line in ("datk distill --size small", "datk export --target jetson", "datk validate --bench da2k"):
        assert line in text


@pytest.mark.parametrize("line", lines_with_datk())
def test_every_documented_line_parses(line: str) -> None:
    from datk.cli.main import app

    command: Any = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    context = command.make_context("datk", ["--help"] if not words else words[:1], resilient_parsing=True)
    while words and words[0] in getattr(command, "commands", {}):
        name = words.pop(0)
        command = command.commands[name]
        if not hasattr(command, "commands"):
            context = command.make_context(name, list(words), parent=context)
            words = []
    assert not words, f"not a command: {words}"
    assert context is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
