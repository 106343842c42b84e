"""datk's own renderings (`datk data synth`)."""

from __future__ import annotations

from pathlib import Path

from datk.data.adapters.base import Adapter, Item, Scan
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_npy
from datk.data.sample import Sample
from datk.depth.preprocess import read_image


def find(root: Path) -> Scan:
    """What index.json lists. Raises DataError when it is missing, unfinished or names missing files."""
    from datk.data.synthetic.dataset import load

    items = []
    for made in load(root):
        files = tuple(p.relative_to(root).as_posix() for p in (made.image_path, made.depth_path))
        items.append(Item(key=files[0], root=root, files=files, scene=made.scene_kind))
    return Scan(root=root, items=tuple(items), layout=LAYOUT.shown)


def read(item: Item) -> Sample:
    """Metres, inf = sky; nothing is unknown."""
    return Sample(name=item.key, image=read_image(item.image), depth_m=read_npy(item.depth), scene_kind=item.scene)


LAYOUT = Layout(image="images/{frame}.png", depth="depth/{frame}.npy", note="listed in index.json")

ADAPTER = Adapter(
    name="synthetic",
    title="datk's own renderings",
    role="train",
    scenes="both",
    licence="Apache-2.0",
    home="datk data synth --count N --out DIR",
    depth=".npy float32, metres; inf = sky; exact",
    layouts=(LAYOUT,),
    read=read,
    find=find,
)
