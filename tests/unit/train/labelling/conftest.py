"""Photographs that the labelling tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.data.sources import ImageSource, open_images
from tests.unit.train.labelling.toys import write_photos


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven photographs: two whole shards of four and one of three."""
    return write_photos(tmp_path_factory.mktemp("labelling") / "photos", 11)


@pytest.fixture
def images(photos: Path) -> ImageSource:
    return open_images(photos)
