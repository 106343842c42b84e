"""The eight scenarios of DA-2K with a first list of search words each; a plan starts from these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One scenario. `share` of the images as in the paper's Fig. 9b; hand_picked: no automatic candidates (C.3)."""

    name: str
    about: str
    share: float
    keywords: tuple[str, ...]
    hand_picked: bool = False


SCENES: tuple[Scene, ...] = (
    Scene(
        name="indoor",
        about="rooms, halls and shops under a roof",
        share=0.20,
        keywords=(
            "living room", "kitchen", "library reading hall", "staircase", "museum gallery", "workshop", "classroom",
            "supermarket aisle", "church interior", "railway station hall", "bathroom", "server room", "greenhouse",
            "theatre stage", "warehouse",
        ),
    ),
    Scene(
        name="outdoor",
        about="streets, landscapes and open places by day",
        share=0.17,
        keywords=(
            "street market", "mountain trail", "harbour", "playground", "vineyard", "stone bridge", "forest path",
            "beach", "construction site", "town square", "garden", "canyon", "railway track", "farmyard", "waterfall",
        ),
    ),
    Scene(
        name="non_real",
        about="drawn, painted, rendered or generated pictures",
        share=0.15,
        keywords=(
            "oil painting landscape", "watercolour street", "ink drawing", "anime background", "game screenshot",
            "cartoon room", "3d render interior", "pixel art city", "engraving", "comic panel", "mural", "tapestry",
            "concept art", "claymation",
        ),
    ),
    Scene(
        name="transparent_reflective",
        about="glass, mirrors, polished metal, still water",
        share=0.10,
        hand_picked=True,
        keywords=(
            "wine glasses", "glass door", "shop window reflection", "mirror in a room", "glass bottle", "chrome tap",
            "glass facade", "aquarium", "ice sculpture", "polished floor", "lake reflection", "crystal ball",
            "plastic wrap", "glass table",
        ),
    ),
    Scene(
        name="adverse_style",
        about="fog, rain, snow, night, blur, strong filters, black and white",
        share=0.16,
        keywords=(
            "dense fog", "snow storm", "rain on windscreen", "city at night", "backlit silhouette", "motion blur",
            "dust storm", "black and white photograph", "long exposure traffic", "underexposed room", "lens flare",
            "thermal image", "smoke", "fisheye lens",
        ),
    ),
    Scene(
        name="aerial",
        about="seen from above: drones, towers, aeroplanes",
        share=0.09,
        keywords=(
            "drone view village", "aerial highway junction", "rooftops from a tower", "aerial coastline",
            "stadium from above", "container port aerial", "aerial river delta", "bird's-eye car park",
            "aerial vineyard", "top view market",
        ),
    ),
    Scene(
        name="underwater",
        about="below the surface, natural and built",
        share=0.06,
        keywords=(
            "coral reef", "shipwreck diving", "kelp forest", "scuba diver", "underwater cave", "sea turtle",
            "shoal of fish", "swimming pool underwater", "jellyfish", "underwater pipeline",
        ),
    ),
    Scene(
        name="object",
        about="a single thing close up, on a plain or busy ground",
        share=0.07,
        hand_picked=True,
        keywords=(
            "teapot", "bicycle", "wire basket", "chess set", "shoe", "potted plant", "violin", "espresso machine",
            "desk lamp", "stack of books", "wicker chair", "mechanical watch", "toy train", "bouquet",
        ),
    ),
)  # fmt: skip
"""In the order of the paper's Table 14. The search words are datk's own, not the paper's Table 15."""
