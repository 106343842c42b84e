"""A benchmark served by the real command in a process of its own, and a real headless browser."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datk.bench_builder.answering import insert_pair
from datk.bench_builder.database import Database
from datk.bench_builder.image_list import HEADER, read_image_list
from datk.bench_builder.pictures import register
from datk.bench_builder.plan import read_plan, write_draft

ROOT = Path(__file__).parents[3]
PASSWORD = "correct horse"
SIZE = (1280, 720)
PATIENCE_S = 120
"""A busy machine is no failed test."""


class Server:
    """`datk bench annotate` on a fixed free port, so that it can be killed and started again."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """The page's address, once it answers."""
        words = ["bench", "annotate", str(self.folder), "--port", str(self.port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "datk.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "toolkit"), "PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        url = line.split()[2]
        self.port = int(url.rstrip("/").rsplit(":", 1)[1])
        return url

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures with two pairs each, people ann and bob."""
    from werkzeug.security import generate_password_hash

    place = tmp_path / "bench"
    write_draft(place, name="toy trucks", images=10)
    rng = np.random.default_rng(1)
    with (place / "images.csv").open("w", newline="") as handle:
        lines = csv.writer(handle)
        lines.writerow(HEADER)
        for k in range(10):
            coarse = rng.integers(40, 220, (6, 8, 3), np.uint8)
            picture = cv2.resize(coarse, (800, 600), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(place / f"images/indoor/{k}.jpg"), picture)
            lines.writerow(["indoor", f"{k}.jpg", "", "CC0-1.0", "made here", ""])
    db = Database(place, create=True)
    listed = read_image_list(place, scenes=read_plan(place).scenes)
    found = register(db, listed.present, progress=lambda done, total: None)
    with db.writing() as tx:
        for shot in found.pictures:
            for k in range(2):
                insert_pair(
                    tx, image_id=shot.id, queue="disputed", first=(100 + 50 * k, 120), second=(430, 600 - 90 * k)
                )
        for name in ("ann", "bob"):
            hashed = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
            tx.execute("INSERT INTO annotator(name, password_hash, created_at) VALUES (?, ?, '')", (name, hashed))
    return place


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    made = Server(folder)
    yield made
    made.kill()


class Page:
    """One person's browser on the annotation page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.presses = 0

    def log_in(self, url: str, name: str) -> None:
        """By keyboard, as everything."""
        from selenium.webdriver.common.keys import Keys

        self.driver.get(f"{url}login")
        self.type(name, Keys.TAB, PASSWORD, Keys.ENTER)
        self.presses = 0

    def type(self, *keys: str) -> None:
        """Real key presses to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()
        self.presses += len(keys)

    def ready(self, *, after: str | None = None) -> str:
        """What the page is ready for, for example "pair-3", once it is; not `after` any more."""
        return str(self.until(lambda: (state := self.state()) and state != after and state))

    def state(self) -> str:
        return str(self.driver.execute_script("return document.body.dataset.ready ?? ''"))

    def text(self, element_id: str) -> str:
        return str(self.driver.execute_script("return document.getElementById(arguments[0]).textContent", element_id))

    def until(self, true: Callable[[], Any]) -> Any:
        """Its value once it is true; fails after PATIENCE_S."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if value := true():
                return value
            time.sleep(0.05)
        raise AssertionError(f"not within {PATIENCE_S} s; state {self.state()!r}, says {self.text('say')!r}")

    def errors(self) -> list[str]:
        """What the browser's console complained of, the dead server's refused connections aside."""
        lines = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [line for line in lines if "ERR_CONNECTION_REFUSED" not in line and "ERR_EMPTY_RESPONSE" not in line]


@pytest.fixture
def new_page() -> Iterator[Callable[[], Page]]:
    """Opens a browser with a profile of its own; skips, naming what is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium (extra 'dev') is not installed")
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = " and ".join(n for n, p in (("chromium", browser), ("chromedriver", driver)) if p is None)
        pytest.skip(f"{missing} is not on this machine (Debian: apt-get install chromium chromium-driver)")
    opened: list[Any] = []

    def new() -> Page:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for word in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-extensions",
        ):
            options.add_argument(word)
        options.add_argument(f"--window-size={SIZE[0]},{SIZE[1]}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        made = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
        made.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False},
        )
        opened.append(made)
        return Page(made)

    yield new
    for made in opened:
        made.quit()


@pytest.fixture
def answers(folder: Path) -> Callable[[], list[tuple[str, int, str]]]:
    """(person, pair, choice) of every standing answer in the file, in order."""

    def read() -> list[tuple[str, int, str]]:
        with Database(folder).reading() as tx:
            assert tx.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            rows = tx.execute(
                "SELECT annotator.name, pair_id, choice FROM answer JOIN annotator ON annotator.id = annotator_id "
                "WHERE undone_at IS NULL ORDER BY answer.id"
            ).fetchall()
        return [tuple(row) for row in rows]

    return read
