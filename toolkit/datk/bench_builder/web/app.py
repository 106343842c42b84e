"""The annotation app: put together here, its parts each in a file of their own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from datk.bench_builder.answering import Refused
from datk.bench_builder.database import Database
from datk.bench_builder.plan import Plan
from datk.bench_builder.web import api, login, photos

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(db: Database, plan: Plan, *, trusted_hosts: list[str] | None, most_body_bytes: int) -> Flask:
    """A WSGI app for one benchmark.

    trusted_hosts: names the page may be called by, which keeps a foreign site from reaching it under a name of its
    own (DNS rebinding); None = any. Bodies above most_body_bytes end with status 413.
    """
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=db.meta("secret"),
        SESSION_COOKIE_NAME="datk_bench",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
        MAX_CONTENT_LENGTH=most_body_bytes,
        MAX_FORM_MEMORY_SIZE=most_body_bytes,
        MAX_FORM_PARTS=10,
        TRUSTED_HOSTS=trusted_hosts,
    )
    app.extensions["datk_bench"] = api.Bench(db=db, plan=plan)
    app.register_blueprint(login.pages)
    app.register_blueprint(api.pages)
    app.register_blueprint(photos.pages)
    app.before_request(login.check_csrf)
    app.after_request(_secure)
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(HTTPException, _http_error)
    return app


def _secure(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if response.mimetype in ("text/html", "application/json"):
        response.headers["Cache-Control"] = "no-store"
    return response


def _refused(error: Refused) -> tuple[Response, int]:
    return jsonify(error=error.message), 409


def _http_error(error: HTTPException) -> Any:
    """Status and one sentence: as JSON where a script asked, else as the library's plain page."""
    if request.path.startswith("/api/"):
        return jsonify(error=error.description), error.code or 500
    return error
