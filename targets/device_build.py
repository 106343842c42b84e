"""What a target wants made on a device from one of its exports, and the one JSON such a script prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Figure = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]
Words = Annotated[str, StringConstraints(max_length=4000)]


@dataclass(frozen=True, kw_only=True)
class DeviceBuild:
    """Send `files` of an export folder to a device, run `script` there, bring `results` back.

    The script's exit status: 0 well, 3 made and found wrong, 4 something is missing there, any other: not made.
    """

    runtime: str
    """By the farm's name; must be there. The script's JSON tells its version under the same name."""
    files: tuple[str, ...]
    """Names in the export folder, the script's own among them."""
    script: str
    arguments: tuple[str, ...] = ()
    product: str
    """Which of the results is what was built."""
    runs_instead: bool = True
    """What was built runs on that device in the artifact's place; False: it only tells of the artifact there."""
    results: Mapping[str, int]
    """Name -> bytes of the largest honest one."""
    answer: str
    """Which of the results is the script's JSON, see DeviceAnswer."""
    maps: str | None = None
    """Which of the results holds the product's depth maps of the golden inputs: .npy, (n, h, w) float32."""
    golden: str | None = None
    """The file of the export that tells the maps to expect: an .npz with `depth` (n, h, w) float32, or golden.json,
    which names those of the float net; None: nothing to compare."""
    least_correlation: float = 1.0
    """With the expected maps, each."""
    written_here: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    """Small text files the host itself lays beside the results: their text for the runtime's version."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Percentiles(_Said):
    """Milliseconds."""

    p50_ms: Figure
    p90_ms: Figure
    p99_ms: Figure


class Latency(Percentiles):
    """Of the inference alone, and beside it of the copies and of what an app does before and after."""

    n: int = Field(ge=1, le=1_000_000)
    pre: Percentiles | None = None
    h2d: Percentiles | None = None
    d2h: Percentiles | None = None
    post: Percentiles | None = None
    around: Words | None = None
    """With what pre and post were measured, or why not."""


class WrongLayer(_Said):
    """Where the script saw a device's answers go wrong."""

    layer: Words
    op: Words
    tensor: Words
    error: Figure | None
    """Relative; None: not finite."""
    usual_error: Figure


class LayerSearch(_Said):
    """What the script says of single layers, where the answers are wrong."""

    status: Words
    """found, narrowed (stopped early), hidden (gone when looked at), none, not_measured."""
    detail: Words
    builds: int = Field(ge=0, le=1000)
    first: WrongLayer | None


class DeviceAnswer(_Said):
    """The script's own words and times. What it says of right and wrong is kept as words: the host compares itself."""

    status: Words
    detail: Words
    build_s: Figure | None = None
    """None: built before."""
    latency: Latency | None = None
    clocks: Words | None = None
    board: dict[Words, Any] = Field(default_factory=dict, max_length=64)
    layers: LayerSearch | None = None
    notes: list[Words] = Field(default_factory=list, max_length=64)
    """Sentences to show, which judge nothing."""
