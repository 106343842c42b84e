"""Which tools, which commit: read once per stage, written into its manifest."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def tool_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Installed versions by distribution name; "absent" where there is none."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def datk_version() -> str:
    """Version of the installed distribution, "checkout" when run from a source tree."""
    return tool_versions(("datk",))["datk"].replace("absent", "checkout")


def git_state(folder: Path) -> dict[str, Any] | None:
    """{"commit", "dirty"} of the checkout datk runs from, None when it is not one."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if not commit:
        return None
    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if status is None else bool(status)}
