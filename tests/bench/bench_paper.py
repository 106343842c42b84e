"""The paper's schedule on 8 and 64 GPUs, from the shipped recipes: operations counted, arithmetic shown, none timed.

The figures are those of `datk train ROLE RECIPE --plan --gpu NAME --gpus N`: recomputation where a recipe recomputes,
and the frozen encoder whose features a student follows, are in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datk.config.load import find_recipe, load_recipe
from datk.config.train_sections import PseudoLabelSection
from datk.data.sources.presets import PRESETS
from datk.pipeline.training_plan import training_plans
from datk.train.cost import cost_of_one_image
from datk.train.plan import GIB
from datk.train.projection import GPUS, PAPER_SIZE, Projection, duration, rate

RECIPES = ("teacher_vitg", "student_s", "student_b", "student_l", "student_g")
LABELLER = "giant"
COUNTS = (8, 64)


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit, n, reference, ratio; reference is the arithmetic."""
    return [*_trainings(), *_labelling()]


def _trainings() -> Iterator[dict[str, Any]]:
    for name in RECIPES:
        recipe = load_recipe(find_recipe(f"paper/{name}"))
        one_card = next(iter(GPUS.values()))  # counts and memory are the same on all: 80 GB each
        by_count = [training_plans(recipe, measure=False, processes=n, card=one_card) for n in COUNTS]
        few, many = (next(iter(plans.values())) for plans in by_count)
        memory = ", ".join(f"{p.memory_bytes / GIB:.1f} on {n}" for p, n in zip((few, many), COUNTS, strict=True))
        for gpu in GPUS.values():
            found = Projection(few.flops_per_image, few.images, gpu, COUNTS[0], precision=few.card_precision)
            yield _row(f"paper/{name}", found, f"; GiB a GPU: {memory}")


def _labelling() -> Iterator[dict[str, Any]]:
    every = PseudoLabelSection().flip_check_every
    flops = cost_of_one_image(LABELLER, PAPER_SIZE).flops_forward * (1 + 1 / every)
    images = sum(preset.paper_images for preset in PRESETS.values())
    for gpu in GPUS.values():
        yield _row(
            f"pseudo-labels of the eight sets by {LABELLER}",
            Projection(flops, images, gpu, COUNTS[0]),
            f"; 1 image in {every} mirrored as well",
        )


def _row(name: str, found: Projection, more: str) -> dict[str, Any]:
    on = ", ".join(f"on {n}: {duration(3600 * found.gpu_hours / n)}" for n in COUNTS)
    words = f"{found.flops_per_image / 1e9:,.0f} G x {found.images / 1e6:.2f} M / "
    words += f"({rate(found.gpu, found.precision)} x {found.mfu}){more}"
    return {
        "name": f"{name}, projected, {on}",
        "value": found.gpu_hours,
        "unit": f"{found.gpu.name} h",
        "n": 0,
        "reference": words,
        "ratio": None,
    }
