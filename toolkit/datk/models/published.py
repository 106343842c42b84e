"""What is known of the nine released checkpoints: file names, hashes, and a few output values.

Hashes: of the .pth files as Hugging Face serves them (two independent public listings agree on each).
Golden values: transformers' convert_depth_anything_to_hf.py, top-left 3x3 of the output for COCO val2017 000000039769.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One released checkpoint."""

    preset: str
    max_depth_m: float | None
    """None: relative."""
    file_name: str
    sha256: str
    golden: tuple[tuple[float, float, float], ...]
    """3x3, disparity or metres."""


PUBLISHED: tuple[Published, ...] = (
    Published(
        "small",
        None,
        "depth_anything_v2_vits.pth",
        "715fade13be8f229f8a70cc02066f656f2423a59effd0579197bbf57860e1378",
        ((2.6751, 2.6211, 2.6571), (2.5820, 2.6138, 2.6271), (2.6160, 2.6141, 2.6306)),
    ),
    Published(
        "base",
        None,
        "depth_anything_v2_vitb.pth",
        "0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328",
        ((4.3576, 4.3723, 4.3908), (4.3231, 4.3146, 4.3611), (4.3016, 4.3170, 4.3121)),
    ),
    Published(
        "large",
        None,
        "depth_anything_v2_vitl.pth",
        "a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345",
        ((162.2751, 161.8504, 162.8788), (160.3138, 160.8050, 161.9835), (159.3812, 159.9884, 160.0768)),
    ),
    Published(
        "small",
        20.0,
        "depth_anything_v2_metric_hypersim_vits.pth",
        "b782898d8a3e8be1f639de33837ed85e9b4b73e40f8f5e5cd99067588d722545",
        ((1.3349, 1.2946, 1.2801), (1.2793, 1.2337, 1.2899), (1.2629, 1.2218, 1.2476)),
    ),
    Published(
        "base",
        20.0,
        "depth_anything_v2_metric_hypersim_vitb.pth",
        "9dc9e274c5eff55c6daf27b660c0ced0eca4e8593a6da90cdcb04d2b4d3f3fa2",
        ((1.4601, 1.3824, 1.4904), (1.5031, 1.4349, 1.4274), (1.4570, 1.4578, 1.4200)),
    ),
    Published(
        "large",
        20.0,
        "depth_anything_v2_metric_hypersim_vitl.pth",
        "6f82ff2bc543ac02ddff4aa31fa363676a8305dd3ccf04e80e2af115a044cb6d",
        ((1.5040, 1.5019, 1.5218), (1.5087, 1.5195, 1.5149), (1.5437, 1.5128, 1.5252)),
    ),
    Published(
        "small",
        80.0,
        "depth_anything_v2_metric_vkitti_vits.pth",
        "9203e538d35255c90dda4b7fedb47ff33fe725497bcca3b1e53b3a65ee63f0cb",
        ((9.5804, 8.0339, 7.7386), (7.9890, 7.2464, 7.7149), (7.7021, 7.2330, 7.3304)),
    ),
    Published(
        "base",
        80.0,
        "depth_anything_v2_metric_vkitti_vitb.pth",
        "4dad67a7cc10b462bca48e6b8569c762b8eb3c1adada170a3851a6d3ba37bb3e",
        ((10.2916, 9.0933, 8.8622), (9.1964, 9.3393, 9.0644), (8.9618, 9.4201, 9.2262)),
    ),
    Published(
        "large",
        80.0,
        "depth_anything_v2_metric_vkitti_vitl.pth",
        "239b1054a369e66da2576e9a118d6d7c12d90dc8ebe609579a9a09cd8e05fe38",
        ((14.0137, 13.3627, 13.1080), (13.2522, 13.3943, 13.3705), (13.0581, 13.4505, 13.3925)),
    ),
)


def by_sha256(sha256: str) -> Published | None:
    """The released file of that hash, or None."""
    return next((p for p in PUBLISHED if p.sha256 == sha256), None)


def by_kind(preset: str, max_depth_m: float | None) -> Published | None:
    """The released weights of that size and kind, or None (tiny and giant have none)."""
    return next((p for p in PUBLISHED if (p.preset, p.max_depth_m) == (preset, max_depth_m)), None)
