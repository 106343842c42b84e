"""datk sign"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Sign export folders with an Ed25519 key: SHA256SUMS.sig, which `datk verify --public-key` checks.

A key: openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out public.pem
"""


def command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Export folders.")],
    key: Annotated[Path, typer.Option(help="Private key, PEM, Ed25519, not encrypted.")],
) -> None:
    """See HELP."""
    from datk.artifact.signature import FILE, sign_export

    for folder in folders:
        print(f"{folder / FILE}: by the key {sign_export(folder, key)}")
