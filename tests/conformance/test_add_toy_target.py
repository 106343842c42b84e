"""docs/adding_a_target.md is executed: its files become a target outside the tree that builds and runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from datk.errors import DataError, UsageError
from datk.quantize.ptq import quantize_module
from datk.targets import PATH_VARIABLE, available, get

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding_a_target.md"


@pytest.fixture
def pt2(tmp_path, monkeypatch):
    """The page's files in a folder named by DATK_TARGETS_PATH."""
    folder = tmp_path / "pt2"
    folder.mkdir()
    blocks = re.findall(r"```python\n# file: (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert sorted(name for name, _ in blocks) == ["__init__.py", "build.py", "runner.py", "scheme.py"]
    for name, code in blocks:
        (folder / name).write_text(code, encoding="utf-8")
    monkeypatch.setenv(PATH_VARIABLE, str(folder))
    available.cache_clear()
    yield folder
    available.cache_clear()
    for name in [m for m in sys.modules if m.startswith("datk_target_pt2")]:
        del sys.modules[name]


def test_a_folder_outside_the_tree_is_listed_builds_and_runs(pt2, toy, tmp_path):
    assert "pt2" in available() and "onnx" in available()
    target = get("pt2")
    result = toy.build(target, "fp32", tmp_path)
    assert result.artifact.suffix == target.suffix
    runner = target.open(result.artifact, result.contract)
    image = toy.images[0]
    np.testing.assert_allclose(runner.predict(image), toy.depth(image), rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError):
        runner.predict(image[:14])
    runner.close()


def test_its_int8_scheme_quantises(pt2, toy):
    target = get("pt2")
    quantised = quantize_module(
        toy.module(target.input_form),
        toy.images[:3],
        target.load(target.scheme)(),
        input_form=target.input_form,
        input_size=toy.size,
        seed=0,
    )
    assert any("quantize_per_tensor" in str(n.target) for n in quantised.graph.nodes)


def test_a_folder_without_a_description_is_a_usage_error(tmp_path, monkeypatch):
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path))
    available.cache_clear()
    with pytest.raises(UsageError, match=r"holds no __init__\.py") as caught:
        available()
    assert "adding_a_target" in (caught.value.hint or "")
    available.cache_clear()


def test_two_targets_of_one_name_are_refused(pt2, tmp_path, monkeypatch):
    copy = tmp_path / "onnx_again"
    copy.mkdir()
    text = (pt2 / "__init__.py").read_text(encoding="utf-8").replace('name="pt2"', 'name="onnx"')
    (copy / "__init__.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv(PATH_VARIABLE, str(copy))
    available.cache_clear()
    with pytest.raises(UsageError, match="two targets are named 'onnx'"):
        available()
    available.cache_clear()
