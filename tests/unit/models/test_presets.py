from __future__ import annotations

import pytest

from datk.errors import UsageError
from datk.models.presets import HEAD_DIM, PRESETS, preset


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if p.backbone == "dinov2"])
def test_head_dimension_is_64_and_last_tap_is_last_block(name: str) -> None:
    p = preset(name)
    assert p.dim == p.heads * HEAD_DIM
    assert p.taps[-1] == p.depth - 1 and list(p.taps) == sorted(set(p.taps))


def test_giant_swiglu_hidden_width_is_4096() -> None:
    assert preset("giant").ffn_hidden == 4096


def test_only_small_weights_are_free_for_commerce() -> None:
    licences = {name: p.licence for name, p in PRESETS.items()}
    assert licences["small"] == "Apache-2.0"
    assert {licences[n] for n in ("base", "large", "giant")} == {"CC-BY-NC-4.0"}


def test_unknown_size_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no net size named 'smal'") as caught:
        preset("smal")
    assert "did you mean 'small'?" in (caught.value.hint or "") and "giant" in (caught.value.hint or "")
