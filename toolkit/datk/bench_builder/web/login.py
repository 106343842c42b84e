"""Who is there: login, logout, a session signed by the benchmark's own key, a token against forged requests."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import deque
from typing import Any

from flask import Blueprint, abort, current_app, g, redirect, render_template, request, session, url_for

from datk.bench_builder.annotators import Annotator, check_login, find_annotator

pages = Blueprint("login", __name__)
TRIES, TRIES_S = 8, 60.0
"""Wrong passwords for one name before it has to wait, and for how long they count."""
_failures: dict[tuple[str, str], deque[float]] = {}
_lock = threading.Lock()


def csrf_token() -> str:
    """The session's token, made when first asked for."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    return str(session["csrf"])


def check_csrf() -> None:
    """Before every request: one that changes something must bring the session's token, and come from this page."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    if origin is not None and origin != request.host_url.rstrip("/"):
        abort(403, "this request came from another page")
    given = request.headers.get("X-CSRF-Token") or request.form.get("csrf", "")
    if not hmac.compare_digest(given.encode(), str(session.get("csrf", "")).encode()) or not given:
        abort(403, "this page has gone stale: reload it")


def person() -> Annotator | None:
    """Who is logged in; None after a change of password or when nobody is."""
    if "annotator" not in g:
        bench = current_app.extensions["datk_bench"]
        known = find_annotator(bench.db, session["annotator_id"]) if "annotator_id" in session else None
        g.annotator = known if known is not None and known.stamp == session.get("stamp") else None
    found: Annotator | None = g.annotator
    return found


def require_person() -> Annotator:
    """The one logged in; else status 401 for a script, the login page for a browser."""
    known = person()
    if known is None:
        if request.path.startswith(("/api/", "/photo/", "/thumb/")):
            abort(401, "log in first")
        abort(redirect(url_for("login.show")))
    return known


@pages.get("/login")
def show() -> Any:
    """The form."""
    if person() is not None:
        return redirect(url_for("api.index"))
    return _form()


@pages.post("/login")
def enter() -> Any:
    """Name and password in, a session out. Too many wrong tries for one name: status 429."""
    bench = current_app.extensions["datk_bench"]
    name, password = request.form.get("name", "").strip(), request.form.get("password", "")
    key = (str(bench.db.path), name.casefold())
    if _tries(key) >= TRIES:
        return _form("Too many wrong passwords for this name. Wait a minute, then try again.", name), 429
    known = check_login(bench.db, name, password)
    if known is None:
        _failed(key)
        return _form("Name and password do not fit.", name), 401
    session.clear()
    session.permanent = True
    session["annotator_id"], session["stamp"] = known.id, known.stamp
    return redirect(url_for("api.index"))


@pages.post("/logout")
def leave() -> Any:
    """Forget the session."""
    session.clear()
    return redirect(url_for("login.show"))


def _form(problem: str = "", name: str = "") -> str:
    plan = current_app.extensions["datk_bench"].plan
    return render_template("login.html", plan=plan, csrf=csrf_token(), problem=problem, name=name)


def _tries(key: tuple[str, str]) -> int:
    with _lock:
        recent = _failures.get(key, deque())
        while recent and recent[0] < time.monotonic() - TRIES_S:
            recent.popleft()
        return len(recent)


def _failed(key: tuple[str, str]) -> None:
    with _lock:
        _failures.setdefault(key, deque(maxlen=TRIES)).append(time.monotonic())
