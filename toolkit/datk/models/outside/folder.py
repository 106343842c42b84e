"""A model's folder: found or fetched, hashed, its licence read. Only weights in safetensors count."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from datk.errors import CheckpointError, EnvironmentLacks

KEPT = ("*.json", "*.txt", "*.safetensors", "README.md")
"""What makes up a model: configurations, vocabularies, weights, and the card that names its licence."""
NOT_KEPT = ("*.fp16.safetensors", "*.non_ema.safetensors")
"""Second copies of the weights."""
UNKNOWN_LICENCE = "unknown: its README.md names none"
EXPERTS = 'pip install "datk[experts]"'


def model_folder(rest: str, *, spec: str) -> Path:
    """The folder that PATH_OR_ID names; an id such as org/name is fetched from the Hugging Face hub, once.

    Raises CheckpointError when it is neither or holds no safetensors, EnvironmentLacks when it cannot be fetched.
    """
    folder = Path(rest)
    if not folder.is_dir():
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", rest) or folder.exists():
            raise CheckpointError(f"{spec}: neither a folder nor a hub id", hint="write hf:FOLDER or hf:ORG/NAME")
        folder = _fetched(rest, spec)
    if not _files(folder, ("*.safetensors",)):
        pickled = _files(folder, ("*.bin", "*.pth", "*.pt", "*.ckpt"))
        hint = (
            f"{pickled[0].name} is a pickle, which may run code; convert it with save_pretrained(safe_serialization)"
            if pickled
            else "name the folder that save_pretrained wrote, with config and weights"
        )
        raise CheckpointError(f"{folder}: holds no .safetensors weights", hint=hint)
    return folder


def folder_digest(folder: Path) -> str:
    """sha256 over names and contents of the files that make up the model; its card plays no part."""
    digest = hashlib.sha256()
    for path in model_files(folder):
        if path.name == "README.md":
            continue
        with path.open("rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def folder_licence(folder: Path) -> str:
    """The `license:` of the model card's front matter, as it stands there."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*(\S+)\s*$", front.group(1), re.MULTILINE) if front else None
    return found.group(1).strip("'\"") if found else UNKNOWN_LICENCE


def copy_model(folder: Path, out: Path) -> None:
    """Copy the files that make up the model, and its card, below out."""
    for path in model_files(folder):
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def model_files(folder: Path) -> list[Path]:
    """The files that make up the model, sorted."""
    return _files(folder, KEPT)


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    found = {p for pattern in patterns for p in folder.rglob(pattern) if p.is_file()}
    return sorted(p for p in found if not any(p.match(n) for n in NOT_KEPT))


def _fetched(name: str, spec: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise EnvironmentLacks(f"--teacher {spec} needs huggingface_hub", hint=EXPERTS) from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(KEPT), ignore_patterns=list(NOT_KEPT)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise EnvironmentLacks(
            f"{spec}: no such folder here, and it cannot be fetched ({type(error).__name__})",
            hint=f"fetch it elsewhere: hf download {name} --local-dir DIR, then --teacher {spec.partition(':')[0]}:DIR",
        ) from error
