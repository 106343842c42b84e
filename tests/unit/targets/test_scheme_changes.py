"""A recipe's changes to a target's int8 scheme."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from datk.config.schema import SchemeSection
from datk.errors import RecipeError
from datk.targets.pt2e import LinearConvQuantizer, QuantScheme
from datk.targets.scheme_changes import changed


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.conv(x).mean((2, 3))))  # type: ignore[no-any-return]


OWN = QuantScheme(quantizer=LinearConvQuantizer(), fold_quantize=True, smooth_quant=True)


def selected(scheme: QuantScheme) -> list[str]:
    program = torch.export.export(Toy().eval(), (torch.zeros(1, 3, 4, 4),)).module()
    return scheme.quantizer.selected(program)  # type: ignore[arg-type]


def test_without_changes_the_scheme_is_the_targets_own() -> None:
    assert changed(OWN, None) is OWN
    assert selected(changed(OWN, SchemeSection())) == ["conv", "fc1", "fc2"]


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        (SchemeSection(only="convolutions"), ["conv"]),
        (SchemeSection(only="linears"), ["fc1", "fc2"]),
        (SchemeSection(float_layers=(r"^fc2\.",)), ["conv", "fc1"]),
    ],
)
def test_fewer_layers_are_quantised_and_the_targets_own_quantizer_stays_whole(
    changes: SchemeSection, left: list[str]
) -> None:
    assert selected(changed(OWN, changes)) == left
    assert selected(OWN) == ["conv", "fc1", "fc2"]


def test_nncfs_algorithms_follow_the_recipe_and_what_it_leaves_out_stays() -> None:
    off = changed(OWN, SchemeSection(smooth_quant_alpha="off", bias_correction="full", ranges="histogram"))
    assert (off.smooth_quant, off.bias_correction, off.ranges) == (False, "full", "histogram")
    half = changed(OWN, SchemeSection(smooth_quant_alpha=0.5))
    assert (half.smooth_quant, half.smooth_quant_alpha) == (True, 0.5)
    assert (half.bias_correction, half.ranges, half.fold_quantize) == ("fast", "minmax", True)


def test_what_a_target_cannot_do_or_no_recipe_can_mean_is_refused() -> None:
    plain = QuantScheme(quantizer=LinearConvQuantizer(), fold_quantize=False, smooth_quant=False)
    with pytest.raises(RecipeError, match="without SmoothQuant"):
        changed(plain, SchemeSection(smooth_quant_alpha=0.5))
    assert not changed(plain, SchemeSection(smooth_quant_alpha="off")).smooth_quant
    for bad in ({"float_layers": ["("]}, {"smooth_quant_alpha": 1.5}, {"alpha": 0.5}, {"only": "adds"}):
        with pytest.raises(ValidationError):
            SchemeSection.model_validate(bad)
