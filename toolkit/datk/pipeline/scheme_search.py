"""`datk quantize --search`: up a ladder of int8 schemes until one holds the gates and is worth it.

Each rung is an export like any other: quantised, compiled, measured, gated and judged by the run's own verdict, whose
figures of harm are dense and ordinal; DA-2K decides nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from datk import targets
from datk.artifact.files import sha256_json
from datk.artifact.manifest import read_manifest
from datk.config.qat_section import QatSection
from datk.config.schema import Recipe, SchemeSection
from datk.depth.io_spec import Size
from datk.errors import EnvironmentLacks, UsageError
from datk.evaluate.target_verdict import STAGE_PREFIX, read_verdict
from datk.evaluate.verdict_rule import FLOAT, harm
from datk.pipeline import run as pipeline
from datk.pipeline.exporting import ExportPlan, ExportRequest, plan_export
from datk.pipeline.route import VERDICT_CODE
from datk.pipeline.runs import STUDENT
from datk.pipeline.search_record import Outcome, SearchRecord, Tried, read_record, write_record
from datk.pipeline.sensitivity import SensitivityRequest, measure_sensitivity
from datk.pipeline.stage import Reporter, source_digest
from datk.targets.base import Target

if TYPE_CHECKING:
    from datk.quantize.sensitivity_map import SensitivityMap

WORST_LAYERS = (1, 2, 4, 8, 16)
"""How many of the most sensitive layers go back to float, rung by rung."""
QAT_BUDGET_S = 600.0
"""Seconds of the last rung's training."""
CODE = (
    "quantize",
    "train",
    "losses",
    "targets/pt2e.py",
    "targets/scheme_changes.py",
    "pipeline/scheme_search.py",
    *VERDICT_CODE,
)


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What was typed."""

    target: str
    checkpoint: Path | None = None
    input_size: Size | None = None
    calibration: Path | None = None
    images: Path | None = None
    allow_few: bool = False
    budget_s: float | None = None
    """No rung is begun after so many seconds; the same line again goes on."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One thing to try. widest: in int8 is all the target's scheme selects, so no later rung is faster."""

    name: str
    precision: str = "int8"
    scheme: SchemeSection | None = None
    widest: bool = False
    qat: QatSection | None = None
    """Train under the scheme first."""


OWN = Rung(name="the target's own scheme", widest=True)
LEARNING = Rung(name="trained under the target's own scheme", widest=True, qat=QatSection(budget_s=QAT_BUDGET_S))
"""Quantisation-aware training, distilled from the float student."""


@dataclass(frozen=True)
class SearchResult:
    """What the search came to.

    chosen: None where no rung held; the run folder then has the target's own scheme. When the budget ran out, words
    says so, and the run folder is as the last try left it.
    """

    record: SearchRecord
    path: Path
    run_dir: Path
    chosen: Tried | None
    words: str


def gaining(target: Target) -> list[Rung]:
    """From the least to the most in int8: weights alone, the decoder's convolutions, the encoder's linears as well."""
    weights = [Rung(name="weights alone", precision="int8-weights")] if "int8-weights" in target.precisions else []
    return [
        *weights,
        Rung(name="decoder convolutions", scheme=SchemeSection(only="convolutions")),
        OWN,
    ]


def mending(target: Target) -> list[Rung]:
    """What may win accuracy back, cheapest first."""
    assert target.scheme is not None
    smooths = target.load(target.scheme)().smooth_quant
    found = [
        Rung(name=f"SmoothQuant {alpha}", scheme=SchemeSection(smooth_quant_alpha=alpha), widest=True)
        for alpha in (("off", 0.5, 0.85) if smooths else ())
    ]
    return [
        *found,
        Rung(name="full bias correction", scheme=SchemeSection(bias_correction="full"), widest=True),
        Rung(name="histogram ranges", scheme=SchemeSection(ranges="histogram"), widest=True),
    ]


def rollback(sensitivity: SensitivityMap) -> list[Rung]:
    """The most sensitive layers back to float, few before many."""
    return [
        Rung(
            name=worst_in_float(count),
            scheme=SchemeSection(float_layers=sensitivity.float_layers(count=count)),
        )
        for count in WORST_LAYERS
    ]


def worst_in_float(count: int) -> str:
    """The name of the rung that takes so many layers back."""
    return f"{count} worst layers in float"


def search(request: SearchRequest, *, reporter: Reporter) -> SearchResult:
    """Try rung after rung; keep in the run folder the one that held, else the target's own scheme.

    Once the budget is spent nothing more is built or measured, not even to bring the own scheme back.

    Stops at the first precision the verdict ships; where the speed cannot be known here, at the widest one that passes
    its gates; and when accuracy holds but int8 is no gain, since the later rungs mend accuracy alone. What was tried is
    kept in RUN/search-TARGET.json: after Ctrl-C or --budget the same request goes on.
    Raises UsageError, DataError, CheckpointError, or EnvironmentLacks where nothing of the target can be run here.
    """
    target = targets.get(request.target)
    if target.scheme is None or "int8" not in target.precisions:
        raise UsageError(f"target '{target.name}' has no int8 to search for", hint="`datk targets list` shows which do")
    if reason := target.cannot_run():
        raise EnvironmentLacks(
            f"a search measures every scheme, and this machine cannot run what {target.name} builds: {reason}",
            hint="search for a target that runs here; its scheme can be put into the recipe's targets[].scheme",
        )
    started = time.monotonic()
    work = _Search(request, target, reporter)
    known: dict[str, Rung] = {}
    left: list[Rung] = []

    def spent() -> bool:
        return request.budget_s is not None and time.monotonic() - started > request.budget_s

    def attempt(rung: Rung) -> Tried | None:
        known[rung.name] = rung
        tried = work.record.find(rung.name)
        if tried is None and spent():
            left.append(rung)
            return None
        return tried or work.attempt(rung)

    chosen, words = climb(work.rungs(spent), attempt)
    if left:
        words += "; the run folder is as the last try left it"
    else:
        work.build(known[chosen.name] if chosen else OWN)
    return SearchResult(work.record, work.path, work.run_dir, chosen, words)


def climb(rungs: Iterable[Rung], attempt: Callable[[Rung], Tried | None]) -> tuple[Tried | None, str]:
    """(the rung that held, or None; why it ended there).  attempt: None when there is no time left for this one."""
    last = None
    for rung in rungs:
        tried = attempt(rung)
        if tried is None:
            return None, f"the budget ran out before '{rung.name}': the same line goes on there"
        if tried.outcome == "ship":
            return tried, f"the verdict ships it: {tried.words}"
        if rung.widest and tried.outcome == "undecided":
            return tried, f"its gates hold; {tried.words}"
        if rung.widest and tried.outcome == "no gain":
            return None, f"accuracy holds, int8 is no gain, and no later rung is faster: {tried.words}"
        last = tried
    assert last is not None
    return None, f"no rung held; the last one: {last.words}"


class _Search:
    def __init__(self, request: SearchRequest, target: Target, reporter: Reporter) -> None:
        self.request, self.target, self.reporter = request, target, reporter
        own = self._plan(OWN)
        self.run_dir = own.run_dir
        if request.checkpoint is not None:
            selection = replace(own.selection, until="student")
            pipeline.run(own.recipe, own.run_dir, selection, reporter=reporter, keep=own.whole)
        self.path = own.run_dir / f"search-{target.name}.json"
        self.key = self._key(own.recipe)
        self.record = read_record(self.path, self.key, target.name)

    def build(self, rung: Rung) -> pipeline.RunResult:
        """Bring the run folder to this rung; what lies there already is left as it is."""
        plan = self._plan(rung)
        return pipeline.run(plan.recipe, plan.run_dir, plan.selection, reporter=self.reporter, keep=plan.whole)

    def rungs(self, spent: Callable[[], bool]) -> Iterator[Rung]:
        """In order; the sensitivity map is measured only when the cheaper ones were of no use and there is time."""
        yield from gaining(self.target)
        yield from mending(self.target)
        first = worst_in_float(WORST_LAYERS[0])
        if spent() and self.record.find(first) is None:
            yield Rung(name=first)  # which layers these are is not known yet, and the search ends before it
            return
        yield from rollback(self._sensitivity())
        yield LEARNING

    def attempt(self, rung: Rung) -> Tried:
        """Build, judge and record one rung."""
        self.reporter.note(f"rung: {rung.name}")
        began = time.monotonic()
        result = self.build(rung)
        kinds = (rung.precision, "quantize", "qat")
        refused = [words for stage, words in result.failures.items() if any(kind in stage for kind in kinds)]
        outcome: Outcome = "failed"
        if refused:
            words = refused[0]
        else:
            outcome, words = _judged(self.run_dir / f"{STAGE_PREFIX}{self.target.name}", rung.precision)
        tried = Tried(
            name=rung.name,
            precision=rung.precision,
            scheme=rung.scheme.model_dump(mode="json", exclude_none=True) if rung.scheme else None,
            qat=rung.qat.model_dump(mode="json", exclude_none=True) if rung.qat else None,
            outcome=outcome,
            words=words,
            seconds=round(time.monotonic() - began, 1),
        )
        self.record.rungs.append(tried)
        write_record(self.record, self.path)
        return tried

    def _sensitivity(self) -> SensitivityMap:
        out = self.run_dir / f"search-{self.target.name}-sensitivity-{self.key[:12]}.json"
        asked = SensitivityRequest(
            checkpoint=self.run_dir / STUDENT / "student.safetensors",
            target=self.target.name,
            input_size=self.request.input_size,
            images=self.request.images,
            out=out,
        )
        self.reporter.note("measuring which layers are sensitive")
        return measure_sensitivity(asked, reporter=self.reporter)[0]

    def _plan(self, rung: Rung) -> ExportPlan:
        request = self.request
        floats = [p for p in self.target.default_precisions if p in FLOAT]
        plan = plan_export(
            ExportRequest(
                targets=(self.target.name,),
                checkpoint=request.checkpoint,
                precisions=(*floats, rung.precision),
                input_sizes=(request.input_size,) if request.input_size else (),
                calibration=request.calibration,
                images=request.images,
                allow_few=request.allow_few,
            )
        )
        recipe, whole = (with_rung(r, self.target.name, rung) for r in (plan.recipe, plan.whole))
        return replace(plan, recipe=recipe, whole=whole)

    def _key(self, recipe: Recipe) -> str:
        return sha256_json(
            {
                "student": read_manifest(self.run_dir / STUDENT).digest,
                "quantize": recipe.quantize.model_dump(mode="json"),
                "photos": recipe.photos.model_dump(mode="json"),
                "validation": recipe.validation.model_dump(mode="json"),
                "input_size": self.request.input_size,
                "code": {room: source_digest(room) for room in CODE},
            }
        )


def _judged(folder: Path, precision: str) -> tuple[Outcome, str]:
    """(outcome, words) of a precision by the verdict of its target."""
    verdict = read_verdict(folder)
    row = verdict.row(precision)
    assert row is not None, f"{folder}: no {precision}"
    if verdict.ship == precision:
        return "ship", row.words
    if row.status == "undecided":
        return "undecided", row.words
    worse = not row.passed or (row.compared is not None and harm(row.compared) is not None)
    return ("worse" if worse else "no gain"), row.words


def with_rung(recipe: Recipe, target: str, rung: Rung) -> Recipe:
    """The recipe with that rung's scheme and training for the target, and nothing of another rung."""
    changes = {"scheme": rung.scheme, "qat": rung.qat}
    sections = tuple(s.model_copy(update=changes) if s.name == target else s for s in recipe.targets)
    return recipe.model_copy(update={"targets": sections})
