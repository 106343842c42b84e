"""`--plan` on labelling: counted by hand, or not counted with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.config.load import load_recipe
from datk.config.schema import Recipe
from datk.pipeline.labelling_plan import LabellingPlan, labelling_plan, labelling_rows
from datk.train.cost import cost_of_one_image
from datk.train.projection import GPUS


def recipe(folder: Path, change: str, base: str = "paper/student_s") -> Recipe:
    path = folder / "mine.yaml"
    path.write_text(f"extends: {base}\nname: mine\n{change}\n")
    return load_recipe(path)


def test_the_paper_s_photographs_cost_its_teacher_210_h100_hours(tmp_path: Path) -> None:
    planned = labelling_plan(recipe(tmp_path, "photos: {labels: null}\nteacher: {size: giant}"))
    assert isinstance(planned, LabellingPlan) and planned.images == 62_300_000
    flops = cost_of_one_image("giant", (518, 518)).flops_forward * 17 / 16  # one image in 16 is mirrored as well
    (found,) = planned.projections([(GPUS["h100"], 8)])
    assert found.gpu_hours == pytest.approx(flops * 62.3e6 / (989e12 * 0.4) / 3600) == pytest.approx(210, rel=0.01)
    assert labelling_rows(planned, [(GPUS["h100"], 8)])[1] == ["labels", "on 8 h100", found.arithmetic()]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("photos: {labels: null}\ncheckpoints: {teacher: gone.pth}", "the teacher is none of ours, or not here"),
        ("photos: {labels: null, images: 'folder:gone'}\nteacher: {size: tiny}", "folder:gone cannot be read here"),
        ("description: as it is", "taken as finished from data/pseudo_labels/bdd100k"),
    ],
)
def test_what_is_not_counted_says_why(change: str, said: str, tmp_path: Path) -> None:
    planned = labelling_plan(recipe(tmp_path, change))
    assert isinstance(planned, str) and planned.startswith("not counted: ") and said in planned
    assert labelling_rows(planned, []) == [["labels", "time", planned]]


def test_a_mirrored_average_doubles_it_and_a_metric_net_needs_none(tmp_path: Path) -> None:
    once, twice = (
        labelling_plan(recipe(tmp_path, f"pseudo_labels: {{flip_average: {flag}}}", "smoke")) for flag in ("no", "yes")
    )
    assert isinstance(once, LabellingPlan) and isinstance(twice, LabellingPlan)
    assert twice.flops_per_image == pytest.approx(once.flops_per_image * 2 / (17 / 16))
    assert labelling_plan(recipe(tmp_path, "", "paper/metric_nyu")) is None
