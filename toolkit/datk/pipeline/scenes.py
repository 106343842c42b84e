"""A benchmark's figures scene by scene, as --json and the terminal show them."""

from __future__ import annotations

from typing import Any

POOLED = "pooled"


def scene_figures(details: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """figure -> scene -> {accuracy_percent, n, interval95}, the last scene "pooled" over all pairs.

    details: what measuring.measure keeps. The first figure is the benchmark's own; its companions follow (all pairs,
    the rule "lower is nearer"). A scene without a scored pair has accuracy_percent None. Empty without a benchmark.
    """
    bench = details.get("bench")
    if not bench:
        return {}
    found = {str(bench["bench"]): _shares(bench, bench["scenes"])}
    return found | {str(name): _shares(c, c["scenes"]) for name, c in bench.get("companions", {}).items()}


def _shares(result: dict[str, Any], scenes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: _share(share) for name, share in {**scenes, POOLED: result["overall"]}.items()}


def _share(share: dict[str, Any]) -> dict[str, Any]:
    if "accuracy_percent" in share:
        return dict(share)
    accuracy = share["accuracy"]
    percent = None if accuracy is None else 100 * accuracy
    return {"accuracy_percent": percent, "n": share["n"], "interval95": [100 * share["low"], 100 * share["high"]]}
