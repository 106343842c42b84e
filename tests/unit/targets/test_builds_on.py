"""A target that uses another's code says so: a change there builds its artifacts anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datk.pipeline.route import _rooms_of
from datk.targets import available

ROOT = Path(__file__).resolve().parents[3] / "targets"
NAMES = sorted(p.parent.name for p in ROOT.glob("*/__init__.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_target_it_imports_from_is_named_and_part_of_the_key(name):
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / name).rglob("*.py"))
    used = set(re.findall(r"datk\.targets\.(\w+)", source)) & set(NAMES) - {name}
    assert set(available()[name].builds_on) == used
    assert {f"targets/{n}" for n in (name, *used)} == set(_rooms_of(available()[name]))
