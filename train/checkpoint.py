"""The training state on disk: written whole or not at all, read without running anything it holds."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from datk.artifact.files import atomic_path
from datk.errors import CheckpointError

FILE_NAME = "training_state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> Path:
    """Write folder/training_state.pt atomically. state: tensors, numbers, strings, lists and dicts of them."""
    path = folder / FILE_NAME
    with atomic_path(path) as part:
        torch.save(state, part)
    return path


def load_state(folder: Path, *, fingerprint: str) -> dict[str, Any] | None:
    """The state in folder, or None when there is none yet.

    Raises CheckpointError when it is damaged, or when it belongs to other settings or other data (fingerprint).
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, BadZipFile, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: damaged training state ({type(error).__name__})", hint=f"delete {path} to train from the start"
        ) from error
    if state.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{path}: belongs to other settings or other data than asked for now",
            hint=f"go on with the old ones, or delete {path} to train from the start",
        )
    return state
