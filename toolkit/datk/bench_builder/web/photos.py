"""Pictures by number. No path ever comes from a request, so none can lead astray."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
from flask import Blueprint, Response, abort, current_app, send_file

from datk.bench_builder.pictures import Picture, find_picture
from datk.bench_builder.web.login import require_person
from datk.depth.preprocess import read_image

pages = Blueprint("photos", __name__)
BROWSERS_SHOW = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Others (TIFF) are sent as PNG."""
THUMB_SIDE = 320
KEPT_THUMBS = 512


@pages.get("/photo/<int:image_id>")
def photo(image_id: int) -> Any:
    """The original picture, byte for byte where browsers can show it."""
    picture, path = _picture(image_id)
    if path.suffix.lower() in BROWSERS_SHOW:
        response = send_file(path, conditional=True, etag=picture.sha256, max_age=3600)
    else:
        response = Response(_encode(".png", read_image(path)), mimetype="image/png")
    return _kept(response)


@pages.get("/thumb/<int:image_id>")
def thumb(image_id: int) -> Any:
    """A small JPEG."""
    picture, path = _picture(image_id)
    return _kept(Response(_thumb(path, picture.sha256), mimetype="image/jpeg"))


def _picture(image_id: int) -> tuple[Picture, Path]:
    require_person()
    db = current_app.extensions["datk_bench"].db
    found = find_picture(db, image_id)
    if found is None or not (db.folder / found.path).is_file():
        abort(404, "there is no such picture")
    return found, (db.folder / found.path).resolve()


def _kept(response: Any) -> Any:
    """Kept by the person's own browser, by nothing between."""
    control = response.cache_control
    control.public, control.private, control.max_age = None, True, 3600
    return response


@lru_cache(maxsize=KEPT_THUMBS)
def _thumb(path: Path, digest: str) -> bytes:
    """digest: tells versions of a file apart in the cache."""
    image = read_image(path)
    scale = min(1.0, THUMB_SIDE / max(image.shape[:2]))
    return _encode(".jpg", cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _encode(suffix: str, image: Any) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return bytes(data)
