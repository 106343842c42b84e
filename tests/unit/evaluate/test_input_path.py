"""An artifact that reads its input in another way than its contract says is caught, and the mistake named."""

from __future__ import annotations

import numpy as np
import pytest

from datk.evaluate.input_path import MISTAKES, check_input_path

MEAN, STD = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
rng = np.random.default_rng(0)
PHOTOS = [rng.integers(0, 256, (12, 16, 3)).astype(np.uint8) for _ in range(3)]


def net(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32 in 0..255 -> (h, w): curved in the normalised values, different in each colour."""
    x = (image - MEAN) / STD
    return (np.tanh(x[..., 0]) + 0.3 * np.sin(x[..., 1]) + 0.1 * x[..., 2] ** 2).astype(np.float32)


def noisy(depth: np.ndarray) -> np.ndarray:
    """As int8 would: r about 0.99 with the clean map."""
    return depth + rng.normal(0, 0.1 * depth.std(), depth.shape).astype(np.float32)


def test_an_artifact_as_its_contract_says_passes_exactly_and_quantised():
    assert check_input_path(lambda p: net(p.astype(np.float32)), net, PHOTOS)["status"] == "passed"
    found = check_input_path(lambda p: noisy(net(p.astype(np.float32))), net, PHOTOS)
    assert found["status"] == "passed" and 0.98 < found["r"] < 0.999


@pytest.mark.parametrize("mistake", list(MISTAKES))
@pytest.mark.parametrize("quantised", [False, True])
def test_mistake_is_named(mistake, quantised):
    def artifact(photo):
        depth = net(np.ascontiguousarray(MISTAKES[mistake](photo.astype(np.float32))))
        return noisy(depth) if quantised else depth

    found = check_input_path(artifact, net, PHOTOS)
    assert found["status"] == "failed" and found["detail"].startswith(mistake)


def test_swapped_colours_are_seen_although_the_maps_are_nearly_the_same():
    """A net that hardly looks at colour: r stays at 0.99, which an int8 gate would let pass."""

    def grey(image):
        return image.mean(-1) + 0.04 * (image[..., 0] - image[..., 2])

    found = check_input_path(lambda p: grey(p[..., ::-1].astype(np.float32)), grey, PHOTOS)
    assert 0.97 < found["r"] < 0.999 and found["status"] == "failed" and "wrong colour order" in found["detail"]


def test_what_no_mistake_explains_is_left_to_parity():
    found = check_input_path(lambda p: rng.normal(size=p.shape[:2]).astype(np.float32), net, PHOTOS)
    assert found["status"] == "passed" and "no other" in found["detail"]
    assert check_input_path(lambda p: p, net, [])["status"] == "not_measured"


def test_mistakes_that_explain_nothing_on_the_first_photograph_cost_no_more_of_the_net():
    asked = []

    def counted(image):
        asked.append(image)
        return net(image)

    assert check_input_path(lambda p: noisy(net(p.astype(np.float32))), counted, PHOTOS)["status"] == "passed"
    assert len(asked) == len(PHOTOS) + 1 + len(MISTAKES)
