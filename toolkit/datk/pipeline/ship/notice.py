"""NOTICE: whose work is in an export, under which licence, and whether all of it may be sold."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from datk.artifact.files import write_text
from datk.artifact.licences import Link, blockers
from datk.artifact.provenance import tool_versions
from datk.depth.io_spec import Contract
from datk.pipeline.ship.golden import golden_images

FILE = "NOTICE"


def write_notice(out: Path, chain: Sequence[Link], contract: Contract, *, tools: Sequence[str]) -> None:
    """Write out/NOTICE from the licence chain. tools: distributions that compiled the artifact."""
    lines = [
        f"{contract.artifact}: made with datk from the following.",
        "Terms are quoted as each source states them; this is a record, not legal advice.",
        "",
        "Made from",
        *(f"  {_link(link)}" for link in chain),
        "",
        "Commercial use",
        *_commercial(chain),
        "",
        "Shipped beside it: golden photographs, each under its own licence",
        *(f"  {i.name}: {i.file.licence}, {i.file.credit} ({i.file.source})" for i in golden_images(contract)),
        "",
        "Compiled by (their licences cover the tools, not what they compile)",
        *(f"  {name} {version}: {tool_licence(name)}" for name, version in sorted(tool_versions(tuple(tools)).items())),
        "",
        "The integration code in this folder (verify.py, kits/) is part of datk: Apache-2.0.",
        "The architecture is that of Depth Anything V2 (Yang et al. 2024) and DINOv2 (Oquab et al. 2023), Apache-2.0.",
    ]
    write_text(out / FILE, "\n".join(lines) + "\n")


def tool_licence(name: str) -> str:
    """What an installed distribution's metadata says of its licence, in one line; "not installed" or "not stated"."""
    try:
        info = metadata(name)
    except PackageNotFoundError:
        return "not installed"
    classifiers = [c.rpartition(" :: ")[2] for c in info.get_all("Classifier", []) if c.startswith("License ::")]
    named = [info[key] for key in ("License-Expression", "License") if key in info]
    text = next((t for t in (*named[:1], *classifiers, *named[1:]) if t), "")
    return text.strip().splitlines()[0].strip() if text.strip() else "not stated"


def _link(link: Link) -> str:
    digest = f" (sha256 {link.sha256[:16]}…)" if link.sha256 else ""
    return f"{link.role}: {link.name}, {link.licence}{digest}"


def _commercial(chain: Sequence[Link]) -> list[str]:
    against = blockers(chain)
    if against:
        return ["  not allowed, or not known to be, because of", *(f"    {line}" for line in against)]
    own = [link.name for link in chain if link.use == "yours"]
    hold = [f"  for the images called {', '.join(own)} you must hold the rights yourself"] if own else []
    return ["  nothing above forbids it", *hold]
