"""GLPN (Kim et al. 2022, arXiv 2201.07436): metric depth of rooms or roads, at the photograph's own size."""

from __future__ import annotations

from pathlib import Path

from datk.depth.io_spec import DepthKind
from datk.models.outside.base import Family, OutsideTeacher, load_net, load_processor
from datk.models.outside.dpt import DptTeacher


def open_glpn(folder: Path, *, spec: str, device: str, precision: str) -> OutsideTeacher:
    teacher = DptTeacher(
        load_net(folder, spec=spec),
        folder,
        spec=spec,
        family="glpn",
        depth_kind=DepthKind.DEPTH_METRIC_M,
        device=device,
        precision=precision,
    )
    teacher.processor = load_processor(folder)
    return teacher


FAMILY = Family(name="glpn", prefix="hf", model_types=("glpn",), open=open_glpn)
