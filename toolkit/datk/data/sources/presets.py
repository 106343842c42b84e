"""The paper's eight unlabelled sets (Table 7): how each lies on disk, how many images, whose licence, where to get it.

Layouts tagged "not checked here" come from the sets' own pages or from others' loaders; a preset takes every layout it
lists and says which ones it looked for. For any other arrangement name it as folder:, list:, tar: or lmdb:.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datk.data.sources.base import EncodedSource
from datk.data.sources.files import FileSource, walk_files
from datk.data.sources.lmdb_source import LmdbSource, databases_below
from datk.data.sources.tar import TarSource
from datk.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way a set lies on disk. `pattern` is matched against the end of relative paths (a regular expression)."""

    kind: Literal["files", "tar", "lmdb"]
    shown: str
    """As people read it: images/100k/train/NAME.jpg."""
    pattern: str = ""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named set of unlabelled images."""

    name: str
    title: str
    paper_images: int
    """Images the paper used (Table 7)."""
    scenes: Literal["indoor", "outdoor", "both"]
    licence: str
    home: str
    layouts: tuple[Layout, ...]
    note: str = ""

    def open(self, root: Path) -> EncodedSource:
        """The images of the first layout found below root.

        Raises DataError naming every layout that was looked for when none is there, EnvironmentLacks without lmdb.
        """
        spec = f"{self.name}:{root}"
        files = walk_files(root)
        for layout in self.layouts:
            matcher = re.compile(rf"(?:.*/)?(?:{layout.pattern})", re.IGNORECASE)
            found = [p for p in files if matcher.fullmatch(p)]
            if not found:
                continue
            if layout.kind == "files":
                return FileSource(root, found, name=spec)
            if layout.kind == "tar":
                return TarSource([root / p for p in found], name=spec)
            above = {(root / p).parent.parent for p in found}
            single = (root / "data.mdb").is_file()
            folders = [root] if single else [d for parent in sorted(above) for d in databases_below(parent)]
            return LmdbSource(folders, name=spec)
        packed = [p for p in files if p.lower().endswith((".tar.gz", ".tgz", ".zip"))]
        if packed and len(packed) == len(files):
            raise DataError(
                f"{root}: holds compressed archives only, first {packed[0]}",
                hint="unpack them, or gunzip .tar.gz to .tar, which is read as it is",
            )
        wanted = "\n".join(f"  {layout.shown}" for layout in self.layouts)
        held = ", ".join(sorted({p.split("/")[0] for p in files})[:6]) or "nothing"
        raise DataError(
            f"{root}: does not look like {self.title}; looked for\n{wanted}\nfound at the top: {held}",
            hint=f"get it from {self.home}, or name your arrangement as folder:, list:, tar: or lmdb:",
        )


def _files(shown: str, pattern: str) -> Layout:
    return Layout(kind="files", shown=shown, pattern=pattern)


def _tars(shown: str, pattern: str) -> Layout:
    return Layout(kind="tar", shown=shown, pattern=pattern)


_JPEG = r"\.jpe?g"

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="bdd100k",
            title="BDD100K",
            paper_images=8_200_000,
            scenes="outdoor",
            licence="BDD100K licence (Berkeley; research and commercial use under its terms)",
            home="https://bdd-data.berkeley.edu",
            layouts=(
                _files("images/100k/{train,val,test}/NAME.jpg", rf"images/(?:10k|100k)/[^/]+/[^/]+{_JPEG}"),
                _files("100k/{train,val,test}/NAME.jpg", rf"(?:10k|100k)/[^/]+/[^/]+{_JPEG}"),
                _files("images/track/{train,val,test}/VIDEO/VIDEO-0000001.jpg", rf"track/[^/]+/[^/]+/[^/]+{_JPEG}"),
                _files("frames/VIDEO/NAME.jpg (frames you took from the videos)", rf"frames/.+{_JPEG}"),
            ),
            note="100,000 key frames are shipped; 8.2 million means frames taken from the 100,000 videos, at a rate "
            "the paper does not give",
        ),
        Preset(
            name="google_landmarks",
            title="Google Landmarks v2",
            paper_images=4_100_000,
            scenes="outdoor",
            licence="per image, Creative Commons or public domain (train/train_attribution.csv)",
            home="https://github.com/cvdfoundation/google-landmark",
            layouts=(
                _files("A/B/C/ABCxxxxxxxxxxxxx.jpg", rf"(\w)/(\w)/(\w)/\1\2\3\w{{13}}{_JPEG}"),
                _tars("images_000.tar ... images_499.tar", r"images_\d{3}\.tar"),
            ),
            note="train split: 4,132,914 images in 500 tars",
        ),
        Preset(
            name="imagenet21k",
            title="ImageNet-21K",
            paper_images=13_100_000,
            scenes="both",
            licence="ImageNet terms: non-commercial research",
            home="https://image-net.org/download-images.php",
            layouts=(
                _files("nXXXXXXXX/nXXXXXXXX_N.JPEG", rf"(n\d{{8}})/\1_\d+{_JPEG}"),
                _tars("nXXXXXXXX.tar", r"n\d{8}\.tar"),
            ),
        ),
        Preset(
            name="lsun",
            title="LSUN",
            paper_images=9_800_000,
            scenes="indoor",
            licence="LSUN terms: non-commercial research",
            home="https://www.yf.io/p/lsun",
            layouts=(Layout(kind="lmdb", shown="SCENE_train_lmdb/data.mdb, or data.mdb", pattern=r"data\.mdb"),),
            note="values are encoded pictures (WebP or JPEG)",
        ),
        Preset(
            name="objects365",
            title="Objects365",
            paper_images=1_700_000,
            scenes="both",
            licence="annotations CC BY 4.0; images under Flickr's terms, research use",
            home="https://www.objects365.org",
            layouts=(
                _files("{train,val}/patchN/objects365_v1_XXXXXXXX.jpg", rf"patch\d+/objects365_v[12]_\d{{8}}{_JPEG}"),
                _files("images/v1/patchN/objects365_v1_XXXXXXXX.jpg", rf"objects365_v[12]_\d{{8}}{_JPEG}"),
                _tars("patchN.tar", r"patch\d+\.tar"),
            ),
            note="patchN.tar.gz must be decompressed (or unpacked) first",
        ),
        Preset(
            name="open_images_v7",
            title="Open Images V7",
            paper_images=7_800_000,
            scenes="both",
            licence="annotations CC BY 4.0; images listed as CC BY 2.0",
            home="https://storage.googleapis.com/openimages/web/download_v7.html",
            layouts=(
                _files("{train,train_0..train_f,validation,test}/XXXXXXXXXXXXXXXX.jpg", rf"[0-9a-f]{{16}}{_JPEG}"),
                _tars("train_0.tar ... train_f.tar", r"(?:train_[0-9a-f]|validation|test)\.tar"),
            ),
            note="train_N.tar.gz must be decompressed (gunzip) or unpacked first",
        ),
        Preset(
            name="places365",
            title="Places365",
            paper_images=6_500_000,
            scenes="both",
            licence="Places terms: research and education; images under their owners' copyright",
            home="http://places2.csail.mit.edu/download.html",
            layouts=(
                _files("data_large/LETTER/CLASS/XXXXXXXX.jpg", rf"data_(?:large|256)\w*/[a-z]/.+{_JPEG}"),
                _files("LETTER/CLASS/XXXXXXXX.jpg", rf"[a-z]/[a-z_]+(?:/[a-z_]+)?/\d{{8}}{_JPEG}"),
                _files("Places365_val_XXXXXXXX.jpg", rf"Places365_(?:val|test)_\d{{8}}{_JPEG}"),
                _tars("train_large_places365challenge.tar", r"(?:train|val|test)\w*_\w*places365\w*\.tar"),
            ),
            note="6.5 million: the challenge training set is about 8.0 million, the standard one 1.8 million",
        ),
        Preset(
            name="sa1b",
            title="SA-1B",
            paper_images=11_100_000,
            scenes="both",
            licence="SA-1B dataset research licence",
            home="https://ai.meta.com/datasets/segment-anything",
            layouts=(
                _files("[sa_000000/]sa_N.jpg beside sa_N.json", rf"sa_\d+{_JPEG}"),
                _tars("sa_000000.tar ... sa_000999.tar", r"sa_\d{6}\.tar"),
            ),
            note="faces and number plates are blurred: the blur leaves marks in predicted depth",
        ),
    )
}
