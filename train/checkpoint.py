"""The training state on disk: written whole or not at all, by all processes together, read by any number of them.

folder/state/step-00000012/ holds what torch.distributed.checkpoint wrote in its safetensors form (tensors, each process
its share) and state.json (the numbers). It is written under a hidden name, synchronised and renamed, and the one
before it goes after; so a process killed at any moment leaves a whole one. Nothing in it is ever unpickled. With
several machines the folder must lie on a file system they share.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from datk.artifact.files import write_json
from datk.errors import CheckpointError
from datk.train.world import World, current_world

FOLDER = "state"
FACTS = "state.json"
_BROKEN = (CheckpointException, SafetensorError, OSError, ValueError, KeyError, RuntimeError, AssertionError)
"""What a reader raises on files that are cut short, missing or of other shapes."""


def save_state(
    folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, step: int, world: World
) -> Path:
    """Write folder/state/step-N; every process calls it with its own share of the tensors.

    tensors: plain (every process holds the same) or sharded ones, by name. facts: JSON.
    """
    final = folder / FOLDER / f"step-{step:08d}"
    part = final.with_name(f".{final.name}.part")
    if world.from_main(final.exists()):  # after a resume that took no step
        return final
    if world.main:
        for old in final.parent.glob(".*.part") if final.parent.is_dir() else ():
            shutil.rmtree(old)
        part.mkdir(parents=True)
    world.wait()
    with _quiet():
        writer = HuggingFaceStorageWriter(str(part), save_distributed=True)
        save(dict(tensors), storage_writer=writer, no_dist=world.size == 1)
    world.wait()
    if world.main:
        write_json(part / FACTS, dict(facts))
        for file in (*part.iterdir(), part):
            _synchronise(file)
        part.replace(final)
        _synchronise(final.parent)
        for old in final.parent.glob("step-*"):
            if old != final:
                shutil.rmtree(old)
    world.wait()
    return final


def find_state(folder: Path, *, fingerprint: str) -> tuple[Path, dict[str, Any]] | None:
    """(folder of the newest whole state, its facts), or None when there is none yet.

    Raises CheckpointError when it is damaged, or when it belongs to other settings or other data (fingerprint).
    """
    whole = sorted((folder / FOLDER).glob("step-*"))
    if not whole:
        return None
    path = whole[-1]
    try:
        facts: dict[str, Any] = json.loads((path / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if facts.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{path}: belongs to other settings or other data than asked for now",
            hint=f"go on with the old ones, or delete {path.parent} to train from the start",
        )
    return path, facts


def read_tensors(path: Path, tensors: Mapping[str, Tensor], *, world: World) -> None:
    """Fill tensors in place from a state; every process reads its share, however many wrote it.

    Raises CheckpointError when a file is damaged or does not hold them.
    """
    try:
        with _quiet():
            load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=world.size == 1)
    except _BROKEN as error:
        raise _damaged(path, error) from error


def drop_state(folder: Path) -> None:
    """Remove what a finished training resumed from; the main process does."""
    if current_world().main:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path}: damaged training state ({type(error).__name__})", hint=f"delete {path} to train from the start"
    )


def _synchronise(path: Path) -> None:
    """Have the system put a file, or a folder's list of names, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch warns that one process saves or loads by itself, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\.distributed\.checkpoint")
        yield
