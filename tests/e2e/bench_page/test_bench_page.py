"""The annotation page in a real browser: one key a pair, and nothing lost whatever dies."""

from __future__ import annotations

from typing import Any

import pytest

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium (extra 'dev') is not installed").Keys


def test_a_pair_is_answered_taken_back_and_answered_again_by_keyboard(server: Any, new_page: Any, answers: Any) -> None:
    page = new_page()
    page.log_in(server.start(), "ann")
    first = page.ready()
    page.type("a")
    second = page.ready(after=first)
    page.type(Keys.ARROW_RIGHT)
    page.ready(after=second)
    page.type("u")
    page.until(lambda: page.state() == second)
    page.type("x")
    page.until(lambda: len(answers()) == 2)
    assert [(who, choice) for who, _, choice in answers()] == [("ann", "first"), ("ann", "bad")]
    assert page.errors() == []


@pytest.mark.slow
def test_twenty_pairs_by_keyboard_alone_at_most_two_presses_a_pair(server: Any, new_page: Any, answers: Any) -> None:
    page = new_page()
    page.log_in(server.start(), "ann")
    inner = page.driver.execute_script("return [innerWidth, innerHeight]")
    assert inner == [1280, 720]
    keys = ["a", "b", Keys.ARROW_LEFT, Keys.ARROW_RIGHT, "c"]
    state = None
    for k in range(20):
        state = page.ready(after=state)
        if k == 7:
            page.driver.refresh()
            state = page.ready()
        page.type(keys[k % 5])
    assert page.until(lambda: page.state() == "empty")
    assert page.presses <= 2 * 20
    expected = ["first", "second", "first", "second", "unsure"] * 4
    assert [choice for _, _, choice in answers()] == expected
    assert len({pair for _, pair, _ in answers()}) == 20
    assert page.errors() == []


@pytest.mark.slow
def test_everything_needed_is_on_the_screen_at_1280x720(server: Any, new_page: Any) -> None:
    page = new_page()
    page.log_in(server.start(), "ann")
    page.ready()
    hidden = page.driver.execute_script(
        "return [...document.querySelectorAll('button, canvas, #question, .keys')].filter(e => e.offsetParent && "
        "!e.closest('dialog')).filter(e => { const r = e.getBoundingClientRect(); return r.left < 0 || r.top < 0 || "
        "r.right > innerWidth + 1 || r.bottom > innerHeight + 1; }).map(e => e.id || e.textContent)"
    )
    assert hidden == []
    marks = page.driver.execute_script(
        "return [...document.querySelectorAll('#marks .dot')].map(e => [+e.getAttribute('cx'), +e.getAttribute('cy')])"
    )
    box = page.driver.execute_script("const r = document.getElementById('photo').getBoundingClientRect();"
                                     "return [r.left, r.top, r.width / 800]")  # fmt: skip
    stage = page.driver.execute_script("const r = document.getElementById('stage').getBoundingClientRect();"
                                       "return [r.left, r.top]")  # fmt: skip
    for (x, y), (row, column) in zip(marks, [(100, 120), (430, 600)], strict=True):
        assert x == pytest.approx(box[0] - stage[0] + (column + 0.5) * box[2], abs=0.6)
        assert y == pytest.approx(box[1] - stage[1] + (row + 0.5) * box[2], abs=0.6)


@pytest.mark.slow
def test_two_people_at_once_each_answer_everything_once(server: Any, new_page: Any, answers: Any) -> None:
    url = server.start()
    pages = {"ann": new_page(), "bob": new_page()}
    for name, page in pages.items():
        page.log_in(url, name)
    states: dict[str, str | None] = dict.fromkeys(pages)
    for _ in range(20):
        for name, page in pages.items():
            states[name] = page.ready(after=states[name])
            page.type("a")
    for page in pages.values():
        page.until(lambda page=page: page.state() == "empty")
    given = answers()
    for name in pages:
        assert sorted(pair for who, pair, _ in given if who == name) == list(range(1, 21))


@pytest.mark.slow
def test_a_server_killed_mid_session_loses_nothing_and_doubles_nothing(
    server: Any, new_page: Any, answers: Any
) -> None:
    page = new_page()
    page.log_in(server.start(), "ann")
    state = None
    for k in range(12):
        state = page.ready(after=state)
        if k in (3, 7):
            page.type("a")
            server.kill()  # perhaps before, perhaps after it was written: the page cannot know
            server.start()
        elif k == 10:
            server.kill()
            page.type("b")
            page.until(lambda: "does not answer" in page.text("banner"))
            server.start()
        else:
            page.type("a")
    page.until(lambda: len(answers()) == 12)
    page.ready(after=state)
    assert [choice for _, _, choice in answers()] == ["first"] * 10 + ["second", "first"]
    assert len({pair for _, pair, _ in answers()}) == 12


@pytest.mark.slow
def test_a_page_reloaded_while_the_server_is_dead_sends_its_answer_later(
    server: Any, new_page: Any, answers: Any
) -> None:
    page = new_page()
    url = server.start()
    page.log_in(url, "ann")
    page.ready()
    server.kill()
    page.type("b")
    page.until(lambda: "does not answer" in page.text("banner"))
    server.start()
    page.driver.get(url)
    page.until(lambda: len(answers()) == 1)
    assert page.ready() == "pair-2"
    assert answers() == [("ann", 1, "second")]


@pytest.mark.slow
def test_an_own_pair_is_made_by_keyboard_alone(server: Any, new_page: Any, answers: Any, folder: Any) -> None:
    page = new_page()
    page.log_in(server.start(), "ann")
    page.ready()
    page.type("n")
    page.until(lambda: page.state() == "own-0")
    page.type(Keys.ARROW_UP, Keys.ENTER)
    page.until(lambda: page.state() == "own-1")
    page.type(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    page.until(lambda: page.state() == "own-2")
    page.type("b")
    page.until(lambda: len(answers()) == 1)
    page.until(lambda: page.state() == "own-0")
    page.type(Keys.ESCAPE)
    page.until(lambda: page.state() == "pair-1")
    assert page.errors() == []
