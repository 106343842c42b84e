from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import bucket_tensor
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything


def lively(net: DepthAnything) -> DepthAnything:
    """Far from its start: LayerScale, norms and biases all differ from 1 and 0, so that folding is tested."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * (0.05 if p.ndim > 1 else 0.2))
    return net.eval()


NETS = {
    "relative": lively(DepthAnything("tiny")),
    "metric": lively(DepthAnything("tiny", depth_kind=DepthKind.DEPTH_METRIC_M, max_depth_m=80.0)),
}


@pytest.mark.parametrize("kind", list(NETS))
@settings(max_examples=8, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 99))
def test_deployment_module_equals_the_net_on_normalised_input(kind: str, rows: int, columns: int, seed: int) -> None:
    net, size = NETS[kind], (14 * rows, 14 * columns)
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = net(torch.from_numpy(bucket_tensor(image)))
        from_uint8 = deployment_module(net, size, "nhwc_uint8")(torch.from_numpy(image)[None])
        planes = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
        from_float = deployment_module(net, size, "nchw_float")(planes)
    assert from_uint8.shape == (1, *size) and from_uint8.dtype == torch.float32
    tolerance = 1e-5 * float(expected.abs().max())  # float32 rounding; folding LayerScale reorders products
    assert float((from_uint8 - expected).abs().max()) <= tolerance
    assert float((from_float - expected).abs().max()) <= tolerance
