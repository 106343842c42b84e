"""SHA256SUMS of an export folder: written last, in the form that `sha256sum -c` reads."""

from __future__ import annotations

from pathlib import Path

from datk.artifact.files import sha256_file, write_text
from datk.artifact.verify import SIGNATURES, SUMS, files_below, render_sums


def write_sums(folder: Path) -> Path:
    """Hash every file below folder, SHA256SUMS and its signature excepted; returns the list's path."""
    names = [name for name in files_below(folder) if name != SUMS and name not in SIGNATURES]
    write_text(folder / SUMS, render_sums({name: sha256_file(folder / name) for name in names}))
    return folder / SUMS
