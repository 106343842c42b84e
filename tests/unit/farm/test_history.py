"""Results kept for good, compared between releases, and shown without a server."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from datk.artifact.manifest import Metric
from datk.farm.store import Store
from datk.report.farm_ci import junit_xml, markdown_summary
from datk.report.farm_page import changes, dashboard, history_csv, newest_and_release_before


def result(release: str, *, device: str = "orin", verdict: str = "passed", **values: float | None) -> dict[str, Any]:
    metrics = {
        name: Metric(value=v, not_measured=None if v is not None else "emulated").model_dump(mode="json")
        for name, v in values.items()
    }
    reasons = ["blurred"] if verdict == "rejected" else []
    row = {"key": f"{release}-{device}", "run": "nightly", "release": release, "git_commit": "abc", "device": device}
    return (
        row
        | {"artifact": "tflite-int8", "sha256": "0" * 64, "figures": "measured", "verdict": verdict}
        | {
            "reasons": reasons,
            "metrics": metrics,
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    kept = Store(tmp_path)
    kept.record(result("v1", bench_accuracy=95.0, latency_p50_ms=40.0, fallback_ops=0))
    kept.record(result("v2", bench_accuracy=94.0, latency_p50_ms=50.0, fallback_ops=3))
    kept.record(result("v2", device="pi", verdict="rejected", bench_accuracy=60.0, latency_p50_ms=None))
    kept.record(result("v1", device="pi", bench_accuracy=95.0, latency_p50_ms=None))
    return kept


def test_the_same_result_again_is_one_row(store: Store) -> None:
    store.record(result("v1", bench_accuracy=96.0))
    found = store.history(device="orin")
    assert [r["release"] for r in found].count("v1") == 1
    assert {r["metrics"]["bench_accuracy"]["value"] for r in found} == {94.0, 96.0}


def test_a_release_is_compared_with_the_one_before_device_by_device(store: Store) -> None:
    orin, pi = changes(store.history(), "v1", "v2")
    assert (orin.device, orin.worse) == ("orin", "3 operators fall back, 0 before")
    assert pi.worse == "passed before, now rejected: blurred"
    assert "95 → 94 (-1)" in orin.cells() and "40 → 50 (1.250x)" in orin.cells()
    assert changes(store.history(), "v2", "v1")[1].worse is None
    assert changes(store.history(), "v1", "v9")[0].after is None


def test_without_names_the_newest_results_are_compared_with_the_release_before(store: Store) -> None:
    rows = store.history()  # v1 of the Pi came last, after v2 had begun
    assert newest_and_release_before(rows) == ("v1", None)
    store.record(result("v3"))
    assert newest_and_release_before(store.history()) == ("v3", "v1")
    store.record(result(""))  # without a release it goes by its run, whose name the others share
    assert newest_and_release_before(store.history()) == ("nightly", "v3")


def test_csv_holds_every_figure_and_starts_no_formula(store: Store) -> None:
    store.record(result("=HYPERLINK(1)", bench_accuracy=1.0))
    rows = list(csv.DictReader(io.StringIO(history_csv(store.history()))))
    assert len(rows) == 5 and rows[0]["bench_accuracy"] == "95.0"
    assert [r["latency_p50_ms"] for r in rows if r["device"] == "pi"] == ["", ""]
    assert rows[-1]["release"].startswith("'=")


def test_the_dashboard_is_one_page_that_opens_offline_and_escapes_what_devices_say(store: Store) -> None:
    store.record(result("<script>alert(1)</script>", verdict="rejected", bench_accuracy=1.0))
    page = dashboard(store.history())
    assert "<script" not in page and "&lt;script&gt;" in page
    for outside in ('src="http', 'href="http', "url(http"):
        assert outside not in page
    assert page.count("data:image/svg+xml") == 2  # nothing measured memory


def test_ci_outputs_escape_what_devices_say() -> None:
    row = {
        "device": "orin",
        "artifact": "a",
        "status": "rejected",
        "label": "x",
        "reasons": ["<b>|\x1b[2J`"],
        "metrics": {},
    }
    from xml.etree import ElementTree

    case = ElementTree.fromstring(junit_xml([row], run="r"))[0]
    assert case[0].tag == "failure" and "<b>|" in str(case[0].get("message"))
    assert "<b>" not in markdown_summary([row], run="r") and "\\|" in markdown_summary([row], run="r")
