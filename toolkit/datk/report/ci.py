"""Judged models for CI: JUnit XML, which every CI system shows, and Markdown for a job's summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from datk.evaluate.gates import GateResult


@dataclass(frozen=True, kw_only=True)
class JudgedModel:
    """One model of a side-by-side call, as it is told."""

    name: str
    judged_by: str
    figures: tuple[tuple[str, str], ...]
    """(column, text)."""
    denominator: str
    versus: str
    """The sentence about the reference; empty for the reference itself."""
    gates: tuple[GateResult, ...]
    problems: tuple[str, ...] = ()


def junit(bench: str, protocol: str, models: Sequence[JudgedModel]) -> str:
    """JUnit XML: one suite a model, one case a gate; a model without gates has one case that says it was scored."""
    root = ElementTree.Element("testsuites", name=f"datk validate {bench}")
    for model in models:
        failures = sum(g.status == "failed" for g in model.gates)
        skipped = sum(g.status == "not_measured" for g in model.gates)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"{bench}: {model.name}",
            tests=str(len(model.gates) or 1),
            failures=str(failures),
            skipped=str(skipped),
            errors="0",
        )
        for gate in model.gates:
            case = ElementTree.SubElement(suite, "testcase", classname=f"{bench}.{model.name}", name=gate.name)
            if gate.status == "failed":
                ElementTree.SubElement(case, "failure", message=gate.detail).text = gate.detail
            elif gate.status == "not_measured":
                ElementTree.SubElement(case, "skipped", message=gate.detail)
            else:
                ElementTree.SubElement(case, "system-out").text = gate.detail
        if not model.gates:
            case = ElementTree.SubElement(suite, "testcase", classname=f"{bench}.{model.name}", name="scored")
            ElementTree.SubElement(case, "system-out").text = "; ".join(f"{k} {v}" for k, v in model.figures)
        lines = [f"protocol: {protocol}", f"judged by: {model.judged_by}", f"scored: {model.denominator}"]
        lines += [f"{k}: {v}" for k, v in model.figures] + [*model.problems]
        ElementTree.SubElement(suite, "system-out").text = "\n".join(filter(None, [*lines, model.versus]))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _clean(ElementTree.tostring(root, encoding="unicode")) + "\n"


def markdown(bench: str, protocol: str, models: Sequence[JudgedModel]) -> str:
    """A table of figures with their denominators, the gates below, every broken rule in words."""
    columns = [name for name, _ in models[0].figures] if models else []
    lines = [f"## {bench}", "", f"Protocol: {_text(protocol)}", ""]
    lines.append(
        "| model | judged by | " + " | ".join([*map(_text, columns), "scored", "against the reference"]) + " |"
    )
    lines.append("|---" * (len(columns) + 4) + "|")
    for model in models:
        cells = [
            model.name,
            model.judged_by,
            *(text for _, text in model.figures),
            model.denominator,
            model.versus or "–",
        ]
        lines.append("| " + " | ".join(map(_text, cells)) + " |")
    gates = [(m, g) for m in models for g in m.gates]
    if gates:
        lines += ["", "| gate | model | status |", "|---|---|---|"]
        marks = {"passed": "✅ passed", "failed": "❌ failed", "not_measured": "– not measured"}
        lines += [f"| {_text(g.name)} | {_text(m.name)} | {marks[g.status]} |" for m, g in gates]
        broken = [f"- **{_text(m.name)}**: {_text(g.detail)}" for m, g in gates if g.status == "failed"]
        lines += ["", "What failed:", "", *broken] if broken else []
    problems = [f"- {_text(m.name)}: {_text(p)}" for m in models for p in m.problems]
    lines += ["", "Data and predictions:", "", *problems] if problems else []
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;")


def _clean(text: str) -> str:
    """Without the control characters that XML 1.0 forbids."""
    return "".join(c for c in text if c in "\t\n\r" or ord(c) >= 0x20)
