"""The page's server: who may do what, what a forged or oversized request gets, and that answers count once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("flask", reason="flask (extra 'bench') is not installed")
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

from datk.bench_builder.annotators import annotators, check_login, save_annotator
from datk.bench_builder.queue import all_pairs
from datk.bench_builder.web import login
from datk.bench_builder.web.app import create_app
from datk.bench_builder.web.serve import LOOPBACK, MOST_BODY_BYTES
from datk.errors import UsageError

PASSWORD = "correct horse battery"
CHEAP_HASH = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
"""The real cost would be most of these tests' time."""
TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_failures_yet() -> Iterator[None]:
    login._failures.clear()
    yield


@pytest.fixture
def app(bench: Any) -> Any:
    with bench.db.writing() as tx:
        tx.execute("UPDATE annotator SET password_hash = ?", (CHEAP_HASH,))
    return create_app(bench.db, bench.plan, trusted_hosts=["localhost"], most_body_bytes=MOST_BODY_BYTES)


def enter(app: Any, name: str = "ann", password: str = PASSWORD) -> tuple[FlaskClient, Any]:
    client = app.test_client()
    page = client.get("/login").text
    form = {"name": name, "password": password, "csrf": csrf_of(page)}
    return client, client.post("/login", data=form)


def csrf_of(page: str) -> str:
    found = re.search(r'(?:data-csrf="|name="csrf" value=")([^"]+)', page)
    assert found
    return found[1]


@pytest.fixture
def ann(app: Any) -> FlaskClient:
    """Logged in; posts carry the session's token."""
    client, _ = enter(app)
    client.environ_base["HTTP_X_CSRF_TOKEN"] = csrf_of(client.get("/").text)
    return client


def test_name_and_password_open_the_page(app: Any) -> None:
    client, reply = enter(app)
    assert reply.status_code == 302 and "trucks" in client.get("/").text


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong password"), ("nobody", PASSWORD), ("ann", "")])
def test_anything_else_does_not_and_says_no_more_than_that(app: Any, name: str, password: str) -> None:
    client, reply = enter(app, name, password)
    assert reply.status_code == 401 and "Name and password do not fit" in reply.text
    assert client.get("/").status_code == 302


def test_guessing_is_slowed_down(app: Any) -> None:
    for _ in range(login.TRIES):
        login._failed((str(app.extensions["datk_bench"].db.path), "ann"))
    assert enter(app)[1].status_code == 429
    assert enter(app, "bob")[1].status_code == 302


def test_passwords_are_kept_as_salted_scrypt_hashes(bench: Any) -> None:
    for name in ("ann", "bob"):
        save_annotator(bench.db, name, PASSWORD)
    with bench.db.reading() as tx:
        hashes = [row[0] for row in tx.execute("SELECT password_hash FROM annotator WHERE name IN ('ann', 'bob')")]
    assert all(h.startswith("scrypt:") for h in hashes) and len(set(hashes)) == 2
    assert PASSWORD.encode() not in bench.db.path.read_bytes()
    assert check_login(bench.db, "ANN", PASSWORD) is not None


@pytest.mark.parametrize(
    ("name", "password"), [("ann", "short"), ("", PASSWORD), ("<b>", PASSWORD), ("a" * 41, PASSWORD)]
)
def test_short_passwords_and_odd_names_are_refused(bench: Any, name: str, password: str) -> None:
    before = annotators(bench.db)
    with pytest.raises(UsageError):
        save_annotator(bench.db, name, password)
    assert annotators(bench.db) == before


@pytest.mark.parametrize("path", ["/", "/api/turn", "/api/pictures", "/photo/1", "/thumb/1"])
def test_nothing_is_shown_without_a_login(app: Any, path: str) -> None:
    assert app.test_client().get(path).status_code in (302, 401)


def test_a_new_password_ends_open_sessions(bench: Any, ann: FlaskClient) -> None:
    assert ann.get("/api/turn").status_code == 200
    save_annotator(bench.db, "ann", "another password")
    assert ann.get("/api/turn").status_code == 401


def test_a_forged_session_opens_nothing(app: Any) -> None:
    client = app.test_client()
    client.set_cookie("datk_bench", "eyJhbm5vdGF0b3JfaWQiOjF9.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb", domain="localhost")
    assert client.get("/api/turn").status_code == 401


POSTS = ["/login", "/logout", "/api/answers", "/api/undo", "/api/pairs"]


@pytest.mark.parametrize("path", POSTS)
def test_a_post_without_the_sessions_token_is_refused(app: Any, path: str) -> None:
    client, _ = enter(app)
    for token in (None, "", "guess"):
        headers = {} if token is None else {"X-CSRF-Token": token}
        assert client.post(path, json={}, headers=headers).status_code == 403
    assert client.get("/api/turn").status_code == 200  # still logged in


@pytest.mark.parametrize("path", POSTS)
def test_a_post_from_another_site_is_refused_even_with_the_token(ann: FlaskClient, path: str) -> None:
    assert ann.post(path, json={}, headers={"Origin": "http://evil.example"}).status_code == 403


def test_the_session_cookie_stays_with_this_site_and_out_of_scripts(app: Any) -> None:
    cookie = enter(app)[1].headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie


def test_a_foreign_host_name_is_refused(app: Any) -> None:
    assert app.test_client().get("/login", headers={"Host": "evil.example"}).status_code == 400


def test_pages_may_not_be_framed_nor_run_foreign_scripts(app: Any) -> None:
    headers = app.test_client().get("/login").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY" and headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    ["/photo/../bench.sqlite3", "/photo/%2e%2e%2fbench.sqlite3", "/photo/999", "/photo/-1", "/photo/1/../../plan.yaml",
     "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%5capp.py", "/thumb/images/indoor/a.jpg"],
)  # fmt: skip
def test_no_path_leads_out_of_the_pictures(ann: FlaskClient, path: str) -> None:
    reply = ann.get(path)
    assert reply.status_code == 404 and b"SQLite" not in reply.data


def test_a_body_above_the_limit_is_refused(ann: FlaskClient, bench: Any) -> None:
    big = {"token": TOKEN, "pair_id": bench.pair(), "choice": "first", "more": "x" * MOST_BODY_BYTES}
    assert ann.post("/api/answers", json=big).status_code == 413
    assert ann.post("/login", data={"name": "x" * MOST_BODY_BYTES}).status_code in (403, 413)


@pytest.mark.parametrize(
    "change",
    [{"token": "short"}, {"token": None}, {"choice": "third"}, {"pair_id": "x"}, {"seconds": -1}, {"admin": True}],
)
def test_a_malformed_answer_is_named_and_not_saved(ann: FlaskClient, bench: Any, change: dict[str, Any]) -> None:
    body = {"token": TOKEN, "pair_id": bench.pair(), "choice": "first", "seconds": 1.0, **change}
    reply = ann.post("/api/answers", json=body)
    assert reply.status_code == 400 and next(iter(change)) in reply.json["error"]
    assert all_pairs(bench.db)[0].answers == ()


def test_not_even_json_is_told_so(ann: FlaskClient) -> None:
    assert ann.post("/api/answers", data=b"\x00").status_code == 400


def test_an_answer_posted_twice_counts_once_and_leads_on(ann: FlaskClient, bench: Any) -> None:
    one, other = bench.pair(), bench.pair(4)
    body = {"token": TOKEN, "pair_id": one, "choice": "second", "seconds": 2.5}
    for _ in range(2):
        reply = ann.post("/api/answers", json=body)
        assert reply.status_code == 200 and reply.json["pair"]["id"] == other
        assert (reply.json["done"], reply.json["left"]) == (1, 1)
    assert [len(p.answers) for p in all_pairs(bench.db)] == [1, 0]


def test_a_second_answer_is_refused_in_words(ann: FlaskClient, bench: Any) -> None:
    pair = bench.pair()
    ann.post("/api/answers", json={"token": TOKEN, "pair_id": pair, "choice": "second"})
    reply = ann.post("/api/answers", json={"token": TOKEN[::-1], "pair_id": pair, "choice": "first"})
    assert reply.status_code == 409 and "already" in reply.json["error"]


def test_undo_shows_the_pair_again(ann: FlaskClient, bench: Any) -> None:
    one, _ = bench.pair(), bench.pair(4)
    turn = ann.post("/api/answers", json={"token": TOKEN, "pair_id": one, "choice": "bad"}).json
    again = ann.post("/api/undo", json={"answer_id": turn["last_answer_id"]}).json
    assert again["pair"]["id"] == one and again["last_answer_id"] is None


def test_an_own_pair_goes_to_the_others(app: Any, ann: FlaskClient, bench: Any) -> None:
    body = {"token": TOKEN, "image_id": 6, "first": [1, 2], "second": [30, 40], "choice": "first"}
    assert ann.post("/api/pairs", json=body).json["pair"] is None
    bob, _ = enter(app, "bob")
    pair = bob.get("/api/turn").json["pair"]
    assert pair["queue"] == "hand" and sorted([pair["first"], pair["second"]]) == [[1, 2], [30, 40]]
    assert ann.post("/api/pairs", json={**body, "first": [1, 2, 3]}).status_code == 400


def test_a_photograph_is_the_file_itself_and_a_thumb_is_small(ann: FlaskClient, bench: Any) -> None:
    path = bench.folder / "images/indoor/a.jpg"
    reply = ann.get("/photo/1")
    assert reply.data == path.read_bytes() and "private" in reply.headers["Cache-Control"]
    assert ann.get("/photo/1", headers={"If-None-Match": reply.headers["ETag"]}).status_code == 304
    small = cv2.imdecode(np.frombuffer(ann.get("/thumb/1").data, np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (120, 160, 3)


def test_pictures_are_listed_by_scene_with_their_pairs(ann: FlaskClient, bench: Any) -> None:
    bench.pair(4)
    listed = ann.get("/api/pictures").json["pictures"]
    assert [p["scene"] for p in listed] == ["indoor"] * 3 + ["outdoor"] * 2 + ["object"]
    assert [p["pairs"] for p in listed] == [int(p["id"] == 4) for p in listed]
    assert [p["by_hand"] for p in listed] == [False] * 5 + [True]


def test_the_page_loads_nothing_from_elsewhere() -> None:
    web = Path(login.__file__).parent
    for path in [*web.glob("templates/*"), *web.glob("static/*")]:
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path


def test_listening_is_on_this_machine_alone_unless_told_otherwise() -> None:
    import inspect

    from datk.cli.bench import annotate

    assert inspect.signature(annotate).parameters["host"].default in LOOPBACK
