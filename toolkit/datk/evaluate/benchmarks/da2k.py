"""DA-2K: about 1,000 photographs of eight scene kinds with 2,068 annotated pairs (Depth Anything V2, section 6).

Not shipped. No official scorer exists; the protocol here is the common one, and a small disagreement with published
figures is expected (95.2 +- 0.2 % for the Small weights by the official float path at 518).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datk.data.fetch import DA2K
from datk.errors import DataError, EnvironmentLacks
from datk.evaluate.benchmarks.base import Benchmark
from datk.evaluate.benchmarks.pair_file import FILE, load_pairs
from datk.evaluate.benchmarks.pairs import PairSet

REVISION = DA2K.revision
DEFAULT_FOLDER = DA2K.folder
ZIP = "DA-2K.zip"
FETCH = "datk data fetch da2k"
"""681 MB, Apache-2.0 by its tag."""
KNOWN_IMAGES, KNOWN_PAIRS = 1033, 2068


def load(data_dir: Path | None = None) -> PairSet:
    """The folder with annotations.json, the one above its DA-2K, or the zip archive; default ./data/da2k.

    Raises EnvironmentLacks (exit 4) with the command that fetches it when nothing is at the default place, DataError
    when a named folder does not hold the data set or its annotations do not fit the layout.
    """
    return replace(find(data_dir), name=BENCHMARK.name)


def find(data_dir: Path | None) -> PairSet:
    """The pairs as load() finds them; the robustness variants start from them too."""
    folder = data_dir or DEFAULT_FOLDER
    root = _root(folder)
    if root is not None:
        pairs = load_pairs(root, name=BENCHMARK.name)
        return replace(pairs, notes=(_counted(pairs), "no official scorer exists; published 95.3 % is ViT-S at 518"))
    hint = f"fetch it (681 MB) with: {FETCH}\nor use the built-in pairs: --bench mini"
    if data_dir is None:
        raise EnvironmentLacks(f"DA-2K is not in ./{DEFAULT_FOLDER}", hint=hint)
    if data_dir.is_file():
        raise DataError(f"{folder}: neither a folder nor a .zip", hint=hint)
    raise DataError(f"{folder}: holds neither {FILE} nor DA-2K/{FILE} nor {ZIP}", hint=hint)


def _root(folder: Path) -> Path | None:
    if folder.is_file():
        return folder if folder.suffix.lower() == ".zip" else None
    for root in (folder, folder / "DA-2K"):
        if (root / FILE).is_file():
            return root
    return folder / ZIP if (folder / ZIP).is_file() else None


def _counted(pairs: PairSet) -> str:
    """Copies of the data set differ by a few files: say what this one holds beside what others counted."""
    return (
        f"this copy lists {len(pairs.images)} images and {pairs.n_pairs} pairs, {len(pairs.missing)} images missing; "
        f"a full run elsewhere counted {KNOWN_IMAGES} images and {KNOWN_PAIRS} pairs"
    )


BENCHMARK = Benchmark(name="da2k", title="DA-2K, relative depth of point pairs in eight scene kinds", load=load)
