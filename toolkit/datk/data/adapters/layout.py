"""Path templates: how a data set names its files, which files belong together, and what is wrong when none do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datk.data.sources.files import walk_files
from datk.errors import DataError

_PLACE = re.compile(r"\{(\w+)\}")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Relative paths with {fields}: `Scene{scene}/{variant}/frames/rgb/Camera_0/rgb_{frame}.jpg`.

    Files belong together when the fields that both templates have agree. A field stands for one path part or a piece
    of one, unless `fields` gives a regular expression for it.
    """

    image: str
    depth: str
    extra: Mapping[str, str] = field(default_factory=dict)
    """Role -> template of a further file every image must have (mask, confidence)."""
    fields: Mapping[str, str] = field(default_factory=dict)
    scene: str = ""
    """Name of the scene from the fields: `{scene}/{variant}`."""
    split: str = ""
    images_alone: bool = False
    """Images without a depth map are usual (KITTI): count them, do not call them missing."""
    note: str = ""

    @property
    def shown(self) -> str:
        """The templates as people read them."""
        others = "".join(f" + {t}" for t in self.extra.values())
        return f"{self.image} + {self.depth}{others}"

    def pattern(self, template: str) -> re.Pattern[str]:
        """Regular expression of a template's full relative path."""
        out, at, seen = "", 0, set()
        for place in _PLACE.finditer(template):
            name = place[1]
            out += re.escape(template[at : place.start()])
            out += f"(?P={name})" if name in seen else f"(?P<{name}>{self.fields.get(name, '[^/]+?')})"
            seen.add(name)
            at = place.end()
        return re.compile(out + re.escape(template[at:]))


@dataclass(frozen=True)
class Missing:
    """A file that its partner asks for. have: the file that is there. expected: where the other should lie."""

    have: str
    what: str
    expected: str

    def text(self) -> str:
        return f"{self.have} has no {self.what}: expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Matched:
    """Files of one image relative to the root: image, depth map, then one a role; and what the paths said."""

    files: tuple[str, ...]
    roles: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[str, ...]
    scene: str
    split: str

    @property
    def image(self) -> str:
        return self.files[0]


@dataclass(frozen=True)
class Matching:
    """What match_layouts found. alone: images without a depth map where that is usual."""

    layouts: tuple[Layout, ...]
    pairs: tuple[Matched, ...]
    missing: tuple[Missing, ...]
    alone: int = 0


def match_layouts(root: Path, layouts: Sequence[Layout], *, title: str, home: str) -> Matching:
    """Pair the files below root by every layout that fits, sorted by image path.

    Raises DataError when the folder is missing or holds no pair: it says what was expected, what lies there instead,
    and, where that can be told, which folder to name.
    """
    files = walk_files(root)
    found = [m for m in (_match(files, layout) for layout in layouts) if m.pairs]
    if not found:
        raise _why_no_pair(root, files, layouts, title, home)
    pairs: dict[str, Matched] = {}
    for matching in found:
        for pair in matching.pairs:
            pairs.setdefault(pair.image, pair)
    used = {path for p in pairs.values() for path in p.files}
    return Matching(
        tuple(m.layouts[0] for m in found),
        tuple(pairs[image] for image in sorted(pairs)),
        tuple(missing for m in found for missing in m.missing if missing.have not in used),
        sum(m.alone for m in found),
    )


def _match(files: Sequence[str], layout: Layout) -> Matching:
    templates = {"image": layout.image, "depth": layout.depth, **layout.extra}
    names = {role: tuple(dict.fromkeys(_PLACE.findall(t))) for role, t in templates.items()}
    shared = [n for n in names["image"] if all(n in v for v in names.values())]
    found = {role: _find(files, layout, template, shared) for role, template in templates.items()}
    pieces = tuple(dict.fromkeys(n for v in names.values() for n in v))
    pairs: list[Matched] = []
    missing: list[Missing] = []
    alone = 0
    for key, (image, groups) in found["image"].items():
        values = dict(zip(names["image"], groups, strict=True))
        lacks = [role for role in templates if key not in found[role]]
        if "depth" in lacks and layout.images_alone:
            alone += 1
            continue
        missing += [Missing(image, _word(role), _fill(templates[role], values)) for role in lacks]
        if lacks:
            continue
        for role in templates:
            values |= zip(names[role], found[role][key][1], strict=True)
        paths = tuple(found[role][key][0] for role in templates)
        scene, split = sys.intern(_fill(layout.scene, values)), sys.intern(_fill(layout.split, values))
        told = tuple(values[n] for n in pieces)
        pairs.append(Matched(paths, tuple(layout.extra), pieces, told, scene, split))
    for key, (depth, groups) in found["depth"].items():
        if key not in found["image"]:
            values = dict(zip(names["depth"], groups, strict=True))
            missing.append(Missing(depth, "image", _fill(layout.image, values)))
    return Matching((layout,), tuple(pairs), tuple(missing), alone)


def _find(
    files: Iterable[str], layout: Layout, template: str, shared: Sequence[str]
) -> dict[tuple[str, ...], tuple[str, tuple[str, ...]]]:
    """Key (the shared fields) -> path and the values of all fields, in the template's order."""
    pattern = layout.pattern(template)
    places = [list(pattern.groupindex).index(name) for name in shared]
    numbers = list(pattern.groupindex.values())  # a field's own expression may hold groups too
    found: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {}
    for path in files:
        match = pattern.fullmatch(path)
        if match:
            groups = tuple(sys.intern(match[number]) for number in numbers)
            key = tuple(groups[i] for i in places)
            if key in found:
                raise DataError(
                    f"{path} and {found[key][0]} are the same frame by name", hint="keep one of the two folders"
                )
            found[key] = (path, groups)
    return found


def _word(role: str) -> str:
    return "depth map" if role == "depth" else role


def _fill(template: str, values: Mapping[str, str]) -> str:
    """A template with the fields that are known; * for the others."""
    return _PLACE.sub(lambda place: values.get(place[1], "*"), template)


def _why_no_pair(root: Path, files: Sequence[str], layouts: Sequence[Layout], title: str, home: str) -> DataError:
    """Why no pair was found, most telling reason first."""
    for layout in layouts:
        image, depth = layout.pattern(layout.image), layout.pattern(layout.depth)
        images = [p for p in files if image.fullmatch(p)]
        depths = [p for p in files if depth.fullmatch(p)]
        if images and depths:
            lines = [f"  {m.text()}" for m in _match(files, layout).missing[:5]]
            return DataError(
                "\n".join(
                    [f"{root}: {len(images)} images and {len(depths)} depth maps of {title}, none complete:", *lines]
                ),
                hint=f"expected {layout.shown}",
            )
        if images or depths:
            return _one_half(root, files, images, depths, layout, title, home)
        if (elsewhere := _elsewhere(root, files, image.pattern, title)) is not None:
            return elsewhere
    example = "\n".join(f"  {layout.shown}" for layout in layouts)
    archives = [p for p in files if p.lower().endswith(_ARCHIVES)]
    if archives and len(archives) == len(files):
        return DataError(
            f"{root}: holds archives only, first {archives[0]}", hint=f"unpack them there; expected then\n{example}"
        )
    top = sorted({p.split("/")[0] + ("/" if "/" in p else "") for p in files})
    held = f"holds {', '.join(top[:6])}{' ...' if len(top) > 6 else ''}" if top else "is empty"
    return DataError(f"{root}: not laid out as {title}; it {held}; expected\n{example}", hint=f"get it from {home}")


def _one_half(
    root: Path,
    files: Sequence[str],
    images: Sequence[str],
    depths: Sequence[str],
    layout: Layout,
    title: str,
    home: str,
) -> DataError:
    """Images without any depth map, or the other way round."""
    have, lack = ("images", layout.depth) if images else ("depth maps", layout.image)
    suffix = Path(lack).suffix
    known = {*images, *depths}
    others = [p for p in files if p.endswith(suffix) and p not in known]
    seen = f"; files ending in {suffix} lie at {others[0]}" if others else f"; no file ends in {suffix}"
    first = (images or depths)[0]
    return DataError(
        f"{root}: {len(known)} {have} of {title} (first {first}), but nothing at {lack}{seen}",
        hint=f"unpack the other archives into the same folder; they come from {home}",
    )


def _elsewhere(root: Path, files: Sequence[str], image: str, title: str) -> DataError | None:
    """The folder to name instead, when the images lie further down or this folder lies inside the set."""
    below = re.compile(rf"(.+?)/{image}")
    for path in files:
        if (match := below.fullmatch(path)) is not None:
            inside = match[1]
            return DataError(
                f"{root}: {title} lies further down, in {inside}", hint=f"name that folder: {root / inside}"
            )
    parts = root.resolve().parts
    whole = re.compile(image)
    for up in range(1, min(6, len(parts))):
        prefix = "/".join(parts[-up:])
        if any(whole.fullmatch(f"{prefix}/{p}") for p in files):
            return DataError(
                f"{root}: this is a folder inside {title}", hint=f"name the one above: {Path(*parts[:-up])}"
            )
    return None


def check_not_below(root: Path, index: str, title: str) -> None:
    """Raise DataError naming the folder to name instead, when a set's index file lies further down."""
    if root.is_dir() and not (root / index).is_file() and (found := sorted(root.rglob(index))):
        inside = found[0].parent
        raise DataError(
            f"{root}: {title} lies further down, in {inside.relative_to(root).as_posix()}",
            hint=f"name that folder: {inside}",
        )
