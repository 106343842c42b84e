"""Figures of the Depth Anything V2 paper that a report may stand beside its own. Quoted, never measured here.

Yang et al. 2024 (arXiv 2406.09414): Table 2 (zero-shot relative depth, AbsRel and delta1), Table 3 (DA-2K), Table 14
(DA-2K scene by scene, students on pseudo-labels).
"""

from __future__ import annotations

from dataclasses import dataclass

SCENES_14 = (
    "indoor", "outdoor", "non_real", "transparent_reflective", "adverse_style", "aerial", "underwater", "object",
)  # fmt: skip


@dataclass(frozen=True)
class Quoted:
    """A row of the paper. figures: column -> value in the paper's own unit."""

    model: str
    table: str
    figures: dict[str, float]


def _t2(model: str, abs_rel: float, delta1: float) -> Quoted:
    return Quoted(model, "Table 2", {"abs_rel": abs_rel, "delta1": delta1})


TABLE_2: dict[str, tuple[Quoted, ...]] = {
    bench: tuple(_t2(model, a, d) for model, a, d in rows)
    for bench, rows in {
        "kitti_garg": (
            ("MiDaS V3.1 ViT-L", 0.127, 0.850), ("V1 Small", 0.080, 0.936), ("V1 Base", 0.080, 0.939),
            ("V1 Large", 0.076, 0.947), ("V2 Small", 0.078, 0.936), ("V2 Base", 0.078, 0.939),
            ("V2 Large", 0.074, 0.946), ("V2 Giant", 0.075, 0.948),
        ),
        "nyu_raw_eigen": (
            ("MiDaS V3.1 ViT-L", 0.048, 0.980), ("V1 Small", 0.053, 0.972), ("V1 Base", 0.046, 0.979),
            ("V1 Large", 0.043, 0.981), ("V2 Small", 0.053, 0.973), ("V2 Base", 0.049, 0.976),
            ("V2 Large", 0.045, 0.979), ("V2 Giant", 0.044, 0.979),
        ),
        "sintel": (
            ("MiDaS V3.1 ViT-L", 0.587, 0.699), ("V1 Small", 0.464, 0.739), ("V1 Base", 0.432, 0.756),
            ("V1 Large", 0.458, 0.760), ("V2 Small", 0.500, 0.718), ("V2 Base", 0.495, 0.734),
            ("V2 Large", 0.487, 0.752), ("V2 Giant", 0.506, 0.772),
        ),
        "eth3d": (
            ("MiDaS V3.1 ViT-L", 0.139, 0.867), ("V1 Small", 0.127, 0.885), ("V1 Base", 0.126, 0.884),
            ("V1 Large", 0.127, 0.882), ("V2 Small", 0.142, 0.851), ("V2 Base", 0.137, 0.858),
            ("V2 Large", 0.131, 0.865), ("V2 Giant", 0.132, 0.862),
        ),
        "diode_indoor": (
            ("MiDaS V3.1 ViT-L", 0.075, 0.942), ("V1 Small", 0.076, 0.939), ("V1 Base", 0.069, 0.946),
            ("V1 Large", 0.066, 0.952), ("V2 Small", 0.073, 0.942), ("V2 Base", 0.068, 0.950),
            ("V2 Large", 0.066, 0.952), ("V2 Giant", 0.065, 0.954),
        ),
    }.items()
}  # fmt: skip
"""The paper does not say its crops, caps and handling of sky; the benchmark of that key is its likeliest protocol."""

TABLE_3 = tuple(
    Quoted(model, "Table 3", {"accuracy": value})
    for model, value in (
        ("Marigold", 86.8), ("GeoWizard", 88.1), ("DepthFM", 85.8), ("V1", 88.5),
        ("V2 Small", 95.3), ("V2 Base", 97.0), ("V2 Large", 97.1), ("V2 Giant", 97.4),
    )
)  # fmt: skip

TABLE_14 = tuple(
    Quoted(model, "Table 14", dict(zip((*SCENES_14, "accuracy"), values, strict=True)))
    for model, values in (
        ("V2 Small", (92.9, 93.0, 98.4, 94.4, 95.7, 96.4, 99.2, 96.6, 95.3)),
        ("V2 Base", (96.2, 94.8, 98.7, 96.3, 96.7, 99.0, 100.0, 97.3, 97.0)),
        ("V2 Large", (96.4, 93.9, 99.0, 96.3, 97.3, 99.5, 99.2, 98.0, 97.1)),
    )
)


def quoted_for(bench: str) -> tuple[Quoted, ...]:
    """The paper's rows that belong beside a benchmark; empty for one the paper does not have."""
    if bench == "da2k":
        whole = {row.model for row in TABLE_14}
        return (*TABLE_14, *(row for row in TABLE_3 if row.model not in whole))
    return TABLE_2.get(bench, ())
