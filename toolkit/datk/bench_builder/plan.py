"""The plan of a benchmark: scenes, search words, how many, and the rules pairs are proposed by. A YAML file to edit."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from datk.artifact.files import write_text
from datk.bench_builder.image_list import HEADER, IMAGES_CSV
from datk.bench_builder.prompt import PROMPT_TXT, extension_prompt
from datk.bench_builder.scenes import SCENES
from datk.errors import DataError

PLAN_YAML = "plan.yaml"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScenePlan(_Section):
    """One scenario of the benchmark."""

    about: str = ""
    share: float = Field(ge=0, le=1)
    """Of all images; the shares add up to 1."""
    hand_picked: bool = False
    """True: people alone choose the pairs, no candidates are proposed."""
    keywords: tuple[str, ...] = Field(min_length=1)


class PairRules(_Section):
    """How candidate pairs are drawn (Depth Anything V2, section 6.2 and appendix C.3)."""

    per_image: int = Field(default=2, ge=1, le=100)
    """Disputed pairs to find on each image; DA-2K has two on average."""
    max_draws: int = Field(default=200, ge=1, le=100_000)
    """Draws on one image before it is given up."""
    min_depth_ratio: float = Field(default=3.0, ge=1)
    """Only pairs whose predicted depths differ by more than this factor pop out."""
    ratio_of: Literal["median", "any", "all"] = "median"
    """Whose prediction: the experts' median ratio, any one's or every one's. The paper does not say."""


class Plan(_Section):
    """plan.yaml."""

    name: str = Field(min_length=1, max_length=80)
    images: int = Field(default=1000, ge=1)
    """Target count of images over all scenes."""
    checkers: int = Field(default=2, ge=0, le=8)
    """People who check each answered pair besides its author; the paper has two."""
    pair_rules: PairRules = PairRules()
    scenes: dict[str, ScenePlan] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(s.share for s in self.scenes.values())
        if abs(total - 1) > 0.005:
            raise ValueError(f"the shares of the scenes add up to {total:.3f}, expected 1")
        for name in self.scenes:
            if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
                raise ValueError(f"scene '{name}': expected letters, digits, _ and - only: it becomes a folder's name")
        return self

    def targets(self) -> dict[str, int]:
        """Images wanted per scene; they add up to `images` exactly (largest remainders)."""
        exact = {name: self.images * s.share for name, s in self.scenes.items()}
        counts = {name: int(value + 1e-9) for name, value in exact.items()}
        by_remainder = sorted(exact, key=lambda n: counts[n] - exact[n])
        for name in by_remainder[: self.images - sum(counts.values())]:
            counts[name] += 1
        return counts


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """What `write_draft` did: files written now, and files that stood already and were left alone."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def draft(name: str, *, images: int) -> Plan:
    """A plan with DA-2K's eight scenarios."""
    scenes = {
        s.name: ScenePlan(about=s.about, share=s.share, hand_picked=s.hand_picked, keywords=s.keywords) for s in SCENES
    }
    return Plan(name=name, images=images, scenes=scenes)


def write_draft(folder: Path, *, name: str, images: int) -> Drafted:
    """Write plan.yaml, images.csv with its header, and the prompt made from the plan, where they are absent.

    The prompt file is always made anew: it follows the plan's own keywords. Raises DataError for a damaged plan.
    """
    written, kept = [], []
    for path, text in (
        (folder / PLAN_YAML, _yaml(draft(name, images=images))),
        (folder / IMAGES_CSV, ",".join(HEADER) + "\n"),
    ):
        if path.exists():
            kept.append(path)
        else:
            write_text(path, text)
            written.append(path)
    plan = read_plan(folder)
    prompt = folder / PROMPT_TXT
    write_text(prompt, extension_prompt({n: (s.about, s.keywords) for n, s in plan.scenes.items()}))
    for scene in plan.scenes:
        (folder / "images" / scene).mkdir(parents=True, exist_ok=True)
    return Drafted(written=(*written, prompt), kept=tuple(kept))


def read_plan(folder: Path) -> Plan:
    """folder/plan.yaml. Raises DataError with every problem and the next command."""
    path = folder / PLAN_YAML
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no plan here", hint=f"start one: datk bench plan {folder}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({error})") from error
    try:
        return Plan.model_validate(value)
    except ValidationError as error:
        lines = [_line(item) for item in error.errors()]
        raise DataError(
            "\n  ".join([f"{path}: {len(lines)} problem{'s' if len(lines) != 1 else ''}", *lines]),
            hint="`datk bench plan NEW_FOLDER` writes one with every key",
        ) from error


def _line(item: Any) -> str:
    where = ".".join(str(p) for p in item["loc"]) or "plan"
    if item["type"] != "extra_forbidden":
        return f"{where}: {item['msg'].removeprefix('Value error, ')}"
    known = {*Plan.model_fields, *ScenePlan.model_fields, *PairRules.model_fields}
    near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
    return f"{where}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")


_COMMENTS = {
    "images:": "target count of images over all scenes",
    "checkers:": "people who check each pair besides its author",
    "pair_rules:": "how candidate pairs are proposed; see docs/bench.md",
    "  min_depth_ratio:": "only pairs whose predicted depths differ by more than this factor",
    "  ratio_of:": "median, any or all of the experts",
    "  per_image:": "disputed pairs to find on each image",
    "  max_draws:": "draws on one image before it is given up",
    "    share:": "of all images",
    "    hand_picked:": "true: people choose the pairs, none are proposed",
}


def _yaml(plan: Plan) -> str:
    """The plan as YAML, each key that needs a word explained where it first stands."""
    value = plan.model_dump(mode="json")
    lines = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110).splitlines()
    left = dict(_COMMENTS)
    for i, line in enumerate(lines):
        key = next((k for k in left if line.startswith(k)), None)
        if key is not None:
            lines[i] = f"{line}  # {left.pop(key)}"
    return "\n".join(lines) + "\n"
