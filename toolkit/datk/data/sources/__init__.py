"""Unlabelled real images, wherever they lie: open_images(spec) -> ImageSource."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

from datk.data.sources.base import EncodedSource, ImageSource
from datk.errors import DataError, EnvironmentLacks, UsageError

__all__ = ["KINDS", "EncodedSource", "ImageSource", "expand_shards", "open_images"]


def open_images(spec: str | Path) -> ImageSource:
    """Open a source of images.

    spec: DIR or folder:DIR, list:FILE (one path a line), tar:SHARDS (a glob or braces, a-{000..099}.tar; several
    separated by ::), lmdb:DIR, or PRESET:DIR for one of the paper's eight sets (bdd100k, google_landmarks,
    imagenet21k, lsun, objects365, open_images_v7, places365, sa1b). SET:DIR takes the pictures of a data set with depth
    (`datk data list`) without it, SET:DIR#SPLIT those of one split. Several, separated by `;`, are put end to end.
    Raises DataError when nothing readable is there, UsageError for an unknown kind, EnvironmentLacks (exit 4) when a
    package is missing.
    """
    text = str(spec)
    if ";" in text and not isinstance(spec, Path):
        from datk.data.sources.several import SeveralSources

        return SeveralSources([open_images(part.strip()) for part in text.split(";")], name=text)
    kind, _, rest = text.partition(":")
    if isinstance(spec, Path) or not re.fullmatch(r"[a-z][a-z0-9_]+", kind) or not rest:
        return _folder(text, text)
    if kind in KINDS:
        return KINDS[kind](rest, text)
    from datk.data.sources.presets import PRESETS

    if kind in PRESETS:
        return PRESETS[kind].open(Path(rest))
    from datk.data.adapters import available

    if kind in available():
        return _set(kind, rest, text)
    known = [*KINDS, *PRESETS, *available()]
    near = difflib.get_close_matches(kind, known, n=1)
    hint = f"did you mean '{near[0]}:'? " if near else ""
    raise UsageError(f"--images {text}: no kind of source named '{kind}'", hint=f"{hint}known: {', '.join(known)}")


def expand_shards(pattern: str) -> list[Path]:
    """Shards that a spec names, in order: braces expanded, globs sorted, several patterns separated by `::`.

    Raises DataError naming a shard that is missing or a glob that matches nothing.
    """
    found: list[Path] = []
    for part in pattern.split("::"):
        for name in _braces(part):
            path = Path(name)
            matches = sorted(path.parent.glob(path.name)) if any(c in path.name for c in "*?[") else [path]
            if not matches:
                raise DataError(f"tar:{name}: matches no file", hint="quote the pattern so that the shell leaves it")
            found += matches
    missing = [p for p in found if not p.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"tar:{pattern}: {missing[0]} is missing{more}", hint="fetch it, or narrow the range")
    return found


def _braces(pattern: str) -> list[str]:
    if "{" not in pattern:
        return [pattern]
    try:
        from braceexpand import braceexpand
    except ImportError as error:
        raise EnvironmentLacks("braces in a shard name need braceexpand", hint='pip install "datk[data]"') from error
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise UsageError(f"tar:{pattern}: {error}", hint="such as shards-{000..099}.tar") from error


def _folder(rest: str, spec: str) -> ImageSource:
    from datk.data.sources.files import folder_source

    return folder_source(Path(rest), name=spec)


def _set(name: str, rest: str, spec: str) -> ImageSource:
    from datk.data.dataset import open_dataset
    from datk.data.sources.several import SetImages

    folder, _, split = rest.partition("#")
    return SetImages(open_dataset(name, Path(folder), split or None), name=spec)


def _list(rest: str, spec: str) -> ImageSource:
    from datk.data.sources.files import list_source

    return list_source(Path(rest), name=spec)


def _tar(rest: str, spec: str) -> ImageSource:
    from datk.data.sources.tar import TarSource

    return TarSource(expand_shards(rest), name=spec)


def _lmdb(rest: str, spec: str) -> ImageSource:
    from datk.data.sources.lmdb_source import LmdbSource, databases_below

    return LmdbSource(databases_below(Path(rest)), name=spec)


KINDS: dict[str, Callable[[str, str], ImageSource]] = {
    "folder": _folder,
    "list": _list,
    "tar": _tar,
    "lmdb": _lmdb,
}
