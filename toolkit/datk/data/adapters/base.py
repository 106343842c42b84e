"""What a data set's adapter is: how files are named, how a depth map is decoded, and what the set is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datk.data.adapters.layout import Layout, Matched, Missing, match_layouts
from datk.data.sample import Sample

NO_TRUTH = "images without ground truth"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image and where its depth lies. Nothing has been opened yet. Small: sets have 300,000 of them."""

    key: str
    """Unique within the set: the image's path relative to the root, or a number within a container."""
    root: Path
    files: tuple[str, ...]
    """Relative to the root: image, depth map, further files."""
    roles: tuple[str, ...] = ()
    """What the further files are: mask, confidence."""
    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    scene: str = ""
    split: str = ""

    @property
    def image(self) -> Path:
        return self.root / self.files[0]

    @property
    def depth(self) -> Path:
        return self.root / self.files[1]

    @property
    def extra(self) -> Mapping[str, Path]:
        """Further files by role."""
        return {role: self.root / file for role, file in zip(self.roles, self.files[2:], strict=True)}

    @property
    def fields(self) -> Mapping[str, str]:
        """What the paths said: {"scene": "ai_001_001", "camera": "00", "frame": "0000"}."""
        return dict(zip(self.names, self.values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a folder holds, by name only."""

    root: Path
    items: tuple[Item, ...]
    missing: tuple[Missing, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> how many complete pairs the adapter leaves out on purpose."""
    layout: str = ""
    """Which of the adapter's layouts was found, as people read it."""

    def missing_text(self, shown: int = 5) -> str:
        """One sentence a missing file, the first few of them."""
        lines = [f"  {m.text()}" for m in self.missing[:shown]]
        more = [f"  and {len(self.missing) - shown} more"] if len(self.missing) > shown else []
        total = len(self.items) + len(self.missing)
        return "\n".join([f"{self.root}: {len(self.missing)} of {total} pairs are incomplete", *lines, *more])


def items_of(root: Path, pairs: Iterable[Matched]) -> tuple[Item, ...]:
    """Matched paths as items."""
    return tuple(
        Item(
            key=m.image,
            root=root,
            files=m.files,
            roles=m.roles,
            names=m.names,
            values=m.values,
            scene=m.scene,
            split=m.split,
        )
        for m in pairs
    )


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A data set with depth. Importing its file imports no decoder: those are imported when a file is read."""

    name: str
    title: str
    role: Literal["train", "evaluate"]
    scenes: Literal["indoor", "outdoor", "both"]
    licence: str
    home: str
    """Where to get it."""
    depth: str
    """Encoding, unit, invalid values and sky, in a sentence."""
    layouts: tuple[Layout, ...]
    """Ways the set lies on disk; all that are found are read."""
    read: Callable[[Item], Sample]
    traps: tuple[str, ...] = ()
    paper_images: int | None = None
    """Images the paper used (Depth Anything V2, Table 7) or the protocol names."""
    size: tuple[int, int] | None = None
    """(height, width) of every image, where the set has one size."""
    modules: tuple[str, ...] = ()
    """Packages the decoder needs beyond datk's own; extra `data` brings them."""
    leave_out: Callable[[Item], str | None] | None = None
    """Reason to leave a complete pair out, or None to keep it."""
    split_of: Callable[[Path, tuple[Item, ...]], tuple[Item, ...]] | None = None
    """Give items their split from a file of the set, where paths do not say it."""
    splits_hint: str = ""
    find: Callable[[Path], Scan] | None = None
    """For sets that are not a pair of files an image (a container, an index): replaces the layouts' matching."""

    def scan(self, root: Path) -> Scan:
        """Find pairs by name. Raises DataError saying what was expected where when no pair is there."""
        if self.find is not None:
            found = self.find(root)
        else:
            matched = match_layouts(root, self.layouts, title=self.title, home=self.home)
            found = Scan(
                root=root,
                items=items_of(root, matched.pairs),
                missing=matched.missing,
                left_out={NO_TRUTH: matched.alone} if matched.alone else {},
                layout=" | ".join(layout.shown for layout in matched.layouts),
            )
        items, left_out = found.items, dict(found.left_out)
        if self.leave_out is not None:
            reasons = [self.leave_out(item) for item in items]
            for reason in filter(None, reasons):
                left_out[reason] = left_out.get(reason, 0) + 1
            items = tuple(item for item, reason in zip(items, reasons, strict=True) if reason is None)
        if self.split_of is not None:
            items = self.split_of(root, items)
        return Scan(root=root, items=items, missing=found.missing, left_out=left_out, layout=found.layout)
