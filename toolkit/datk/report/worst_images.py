"""The images of a dense benchmark on which a model loses most."""

from __future__ import annotations

from dataclasses import dataclass

from datk.evaluate.benchmarks.dense import HIGHER_IS_BETTER
from datk.report.judged_file import JudgedFile, JudgedRow


@dataclass(frozen=True)
class WorstImage:
    """One image of one model."""

    image: str
    model: str
    reference: str
    """Empty where there is nothing to compare with: then it is the image's own figure that is bad."""
    text: str


def reference_of(judged: JudgedFile) -> JudgedRow | None:
    """The row of the call that the others were compared with; None when it was no row of it (the float net)."""
    wanted = judged.reference or next((r.versus.reference for r in judged.rows if r.versus), None)
    return next((r for r in judged.rows if r.name == wanted), judged.rows[0] if len(judged.rows) > 1 else None)


def worst_images(judged: JudgedFile, count: int) -> tuple[WorstImage, ...]:
    """The `count` greatest losses of any model against the reference, worst first; of a lone model its worst images.

    Empty for point pairs and where no model is worse on any image.
    """
    reference = reference_of(judged)
    found: list[tuple[float, WorstImage]] = []
    for row in judged.rows:
        if row is reference or row.dense is None:
            continue
        sign = -1.0 if row.metric in HIGHER_IS_BETTER else 1.0
        for image, value in _values(row).items():
            if reference is None:
                found.append((sign * value, WorstImage(image, row.name, "", f"{row.name}: {row.metric} {value:.4g}")))
            elif (theirs := _values(reference).get(image)) is not None and sign * (value - theirs) > 0:
                text = f"{row.name}: {row.metric} {value:.4g}, {reference.name} {theirs:.4g}"
                found.append((sign * (value - theirs), WorstImage(image, row.name, reference.name, text)))
    return tuple(worst for _, worst in sorted(found, key=lambda f: (-f[0], f[1].image, f[1].model))[:count])


def _values(row: JudgedRow) -> dict[str, float]:
    """Image -> the row's first figure."""
    if row.dense is None:
        return {}
    variant = next(iter(row.dense.figures))
    return {
        image: figures[variant][row.metric]
        for image, figures in row.dense.images.items()
        if row.metric in figures.get(variant, {})
    }
