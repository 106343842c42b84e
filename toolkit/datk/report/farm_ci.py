"""Device results for a continuous-integration server: JUnit XML and a Markdown summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127], "\ufffd")
_MARKDOWN = str.maketrans({**{mark: "\\" + mark for mark in "\\`*_[]|#"}, "<": "&lt;", ">": "&gt;", "&": "&amp;"})
FIGURES = (
    ("bench_accuracy", "bench %"), ("bench_drop_pp", "drop pp"), ("correlation_vs_float_median", "r median"),
    ("latency_p50_ms", "p50 ms"), ("load_ms", "load ms"), ("peak_memory_bytes", "peak bytes"),
)  # fmt: skip


def junit_xml(rows: Sequence[dict[str, Any]], *, run: str) -> str:
    """One test case per artifact and device: rejected is a failure, not measured an error, unsupported skipped.

    rows: datk.pipeline.farm.scoring.Row.as_json().
    """
    suite = ElementTree.Element("testsuite", name=_xml(run), tests=str(len(rows)))
    counts = {"failure": 0, "error": 0, "skipped": 0}
    for row in rows:
        case = ElementTree.SubElement(suite, "testcase", classname=_xml(row["device"]), name=_xml(row["artifact"]))
        tag = {"rejected": "failure", "not measured": "error", "unsupported": "skipped"}.get(row["status"])
        if tag is not None:
            counts[tag] += 1
            ElementTree.SubElement(case, tag, message=_xml("; ".join(row["reasons"])))
        lines = [f"{name}: {_value(m)}" for name, m in row["metrics"].items()]
        ElementTree.SubElement(case, "system-out").text = _xml("\n".join([row["label"], *lines]))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    suite.set("skipped", str(counts["skipped"]))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def markdown_summary(rows: Sequence[dict[str, Any]], *, run: str, verdicts: Sequence[str] = ()) -> str:
    """A table, the reasons of all that did not pass, and what to ship where."""
    head = "| device | artifact | verdict | " + " | ".join(heading for _, heading in FIGURES) + " |"
    lines = [f"## {_cell(run)} on devices", "", head, "|---|---|---|" + "---:|" * len(FIGURES)]
    for row in rows:
        cells = [_value(row["metrics"][name]) if name in row["metrics"] else "–" for name, _ in FIGURES]
        lines.append("| " + " | ".join(map(_cell, [row["device"], row["artifact"], row["status"], *cells])) + " |")
    lines.append("")
    for row in rows:
        if row["status"] != "passed" and row["reasons"]:
            lines.append(f"- {_cell(row['artifact'])} on {_cell(row['device'])}: {_cell('; '.join(row['reasons']))}")
    lines += [f"- {_cell(sentence)}" for sentence in verdicts]
    return "\n".join([*lines, ""])


def _value(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return f"not measured: {metric['not_measured']}"
    return f"{metric['value']:.6g}"


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).translate(_MARKDOWN)


def _xml(text: str) -> str:
    return text.translate(_CONTROL)
