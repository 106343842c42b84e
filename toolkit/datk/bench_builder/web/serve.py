"""The page's server: waitress, a plain threaded WSGI server, on one address of this machine."""

from __future__ import annotations

from collections.abc import Callable

from waitress.server import create_server

from datk.bench_builder.database import Database
from datk.bench_builder.plan import Plan
from datk.bench_builder.web.app import create_app
from datk.errors import EnvironmentLacks

LOOPBACK = ("127.0.0.1", "::1", "localhost")
THREADS = 8
MOST_BODY_BYTES = 64 * 1024
"""Nobody uploads anything: answers and logins are far smaller."""


def serve(db: Database, plan: Plan, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted. ready: called with the page's address once the port is open.

    Raises EnvironmentLacks when the address cannot be listened on.
    """
    names = ["127.0.0.1", "localhost", "[::1]"] if host in LOOPBACK else None
    app = create_app(db, plan, trusted_hosts=names, most_body_bytes=MOST_BODY_BYTES)
    try:
        server = create_server(
            app, host=host, port=port, threads=THREADS, ident="datk", max_request_body_size=2 * MOST_BODY_BYTES
        )
    except OSError as error:
        raise EnvironmentLacks(
            f"cannot listen on {host}:{port} ({error.strerror})", hint="another --port, or 0 for any free one"
        ) from error
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{getattr(server, 'effective_port', port)}/")
    try:
        server.run()
    finally:
        server.close()
