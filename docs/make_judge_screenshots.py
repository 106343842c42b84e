"""Make the pictures of the annotation page and of a record's report that the documentation shows.

python docs/make_judge_screenshots.py STUDENT.safetensors [--out docs/images]

Needs the extras bench and dev, chromium and chromedriver. Runs the documented commands in an empty folder: a plan of
Kodak photographs, the page served and used by keyboard; the checkpoint judged at two input sizes on the built-in pairs
and on three Middlebury scenes with their measured disparity.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
LARGEST = 150_000
"""Bytes of a picture."""
PHOTOS = ("kodak_0003", "kodak_0007", "kodak_0012")
SIZES = "98,196"
PASSWORD = "correct horse"


def datk(place: Path, *words: str) -> None:
    """Run the command there; what it says goes to the terminal."""
    print("$ datk", " ".join(words))
    subprocess.run([sys.executable, "-m", "datk.cli.main", *words], cwd=place, check=True)


def bench(place: Path) -> Path:
    """A benchmark under construction: Kodak photographs, two pairs each from superpixel key points."""
    from werkzeug.security import generate_password_hash

    from datk.bench_builder.answering import insert_pair
    from datk.bench_builder.database import Database
    from datk.bench_builder.image_list import HEADER, read_image_list
    from datk.bench_builder.keypoints import SuperpixelPoints
    from datk.bench_builder.pictures import photo_of, register
    from datk.bench_builder.plan import read_plan

    datk(place, "bench", "plan", "trucks", "--images", "3")
    folder = place / "trucks"
    with (folder / "images.csv").open("w", newline="") as handle:
        lines = csv.writer(handle)
        lines.writerow(HEADER)
        for name in PHOTOS:
            shutil.copy(ROOT / f"calibration_data/photos/{name}.jpg", folder / "images" / "outdoor" / f"{name}.jpg")
            lines.writerow(["outdoor", f"{name}.jpg", "", "unrestricted use", "Eastman Kodak Company", ""])
    db = Database(folder, create=True)
    listed = read_image_list(folder, scenes=read_plan(folder).scenes)
    found = register(db, listed.present, progress=lambda done, total: None)
    for picture in found.pictures:
        points = SuperpixelPoints(short_side=256).find(photo_of(db, picture))
        chance = np.random.default_rng(picture.id)
        with db.writing() as tx:
            for _ in range(2):
                first, second = points[chance.choice(len(points), 2, replace=False)].tolist()
                insert_pair(tx, image_id=picture.id, queue="disputed", first=tuple(first), second=tuple(second))
    with db.writing() as tx:
        hashed = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
        tx.execute("INSERT INTO annotator(name, password_hash, created_at) VALUES ('ann', ?, '')", (hashed,))
    return folder


def records(place: Path, student: Path) -> list[Path]:
    """Reports of the student at two sizes: point pairs, and measured disparity."""
    data = ROOT / "toolkit/datk/evaluate/benchmarks/mini_data"
    for scene in json.loads((data / "real.json").read_text())["scenes"]:
        if (scene["kind"], scene["scale"]) == ("disparity", 256):
            for folder, file in (("images", scene["image"]), ("depth", scene["ground_truth"])):
                out = place / "rgbd" / folder / "middlebury" / f"{scene['name']}.png"
                out.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(data / file, out)
    meaning = {"quantity": "disparity", "unit": 1 / 256, "licence": "Middlebury"}
    (place / "rgbd" / "rgbd.json").write_text(json.dumps(meaning))
    shutil.copy(student, place / "student.safetensors")
    pages = []
    for name, more in (("mini", ()), ("rgbd", ("--data", "rgbd"))):
        datk(place, "validate", "student.safetensors", "--bench", name, *more, "--input-size", SIZES,
             "--keep", f"{name}.json")  # fmt: skip
        datk(place, "report", f"{name}.json")
        pages.append(place / f"{name}.html")
    return pages


def browser() -> Any:
    """Headless Chromium at 1280x720."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    resize(driver, 1280, 720)
    return driver


def resize(driver: Any, width: int, height: int) -> None:
    """The page's window, in CSS pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def save(driver: Any, path: Path) -> None:
    """The window as a JPEG of at most LARGEST bytes."""
    time.sleep(1)
    shot = cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
    for quality in range(88, 30, -4):
        data = cv2.imencode(".jpg", shot, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= LARGEST:
            path.write_bytes(data)
            print(f"{path}: {shot.shape[1]}x{shot.shape[0]}, {len(data):,} bytes")
            return
    raise SystemExit(f"{path}: larger than {LARGEST} bytes at any quality worth showing")


def wait_for(driver: Any, state: str) -> None:
    """Until the page is ready for `state`, for example "pair-"."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if str(driver.execute_script("return document.body.dataset.ready ?? ''")).startswith(state):
            return
        time.sleep(0.1)
    raise SystemExit(f"the page was never ready for {state}")


def annotation(driver: Any, folder: Path, out: Path) -> None:
    """Log in, look at a pair, begin one of one's own."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    words = [sys.executable, "-u", "-m", "datk.cli.main", "bench", "annotate", str(folder), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            driver.get(server.stdout.readline().split()[2] + "login")
            ActionChains(driver).send_keys("ann", Keys.TAB, PASSWORD, Keys.ENTER).perform()
            wait_for(driver, "pair-")
            save(driver, out / "bench_annotate.jpg")
            ActionChains(driver).send_keys("n").perform()
            wait_for(driver, "own-0")
            ActionChains(driver).send_keys(Keys.ENTER).perform()
            wait_for(driver, "own-1")
            save(driver, out / "bench_own_pair.jpg")
        finally:
            server.terminate()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        pages = records(place, arguments.student.resolve())
        driver = browser()
        try:
            annotation(driver, bench(place), arguments.out)
            for page, section in zip(pages, ("scenes", "errors"), strict=True):
                resize(driver, 1000, 900)
                driver.get(page.as_uri())
                driver.execute_script("document.getElementById(arguments[0])?.scrollIntoView()", section)
                save(driver, arguments.out / f"judged_{section}.jpg")
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
