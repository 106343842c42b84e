"""GPU-hours from counted operations: a named GPU's peak times the share of it that training really reaches."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from datk.errors import UsageError
from datk.train.precision import Precision

MFU = 0.40
"""Share of the peak a training step is taken to reach (model FLOPs utilisation)."""
MFU_RANGE = (0.25, 0.45)
"""What runs of such nets were reported to reach; the hours grow and shrink with it. Not measured here."""
HOUR_S = 3600.0


@dataclass(frozen=True)
class Gpu:
    """Dense operations a second (2 a multiply-add) by NVIDIA's data sheet: peak_bf16 in tensor cores, peak_fp32 outside
    them, where torch multiplies float32 matrices unless told otherwise. memory_bytes: the card's."""

    name: str
    peak_bf16: float
    peak_fp32: float
    memory_bytes: int

    def peak(self, precision: Precision) -> float:
        """Operations a second in that precision."""
        return self.peak_bf16 if precision == "bf16" else self.peak_fp32


GPUS = {
    "a100": Gpu("a100", 312e12, 19.5e12, 80 * 10**9),
    "h100": Gpu("h100", 989e12, 67e12, 80 * 10**9),
}
"""The SXM cards of 80 GB."""

PAPER_SIZE = (518, 518)


@dataclass(frozen=True)
class Projection:
    """Time for `images` images at flops_per_image operations each on `gpus` cards."""

    flops_per_image: float
    images: int
    gpu: Gpu
    gpus: int
    mfu: float = MFU
    precision: Precision = "bf16"

    @property
    def gpu_hours(self) -> float:
        return self.flops_per_image * self.images / (self.gpu.peak(self.precision) * self.mfu) / HOUR_S

    @property
    def hours(self) -> float:
        """By the clock, if the cards add up and images arrive in time."""
        return self.gpu_hours / self.gpus

    def arithmetic(self) -> str:
        """The sum in words, with the range of the utilisation."""
        low, high = (self.gpu_hours * self.mfu / share for share in reversed(MFU_RANGE))
        return (
            f"{self.flops_per_image / 1e9:,.0f} GFLOP an image x {self.images:,} images / "
            f"({rate(self.gpu, self.precision)} x {self.mfu:.2f}) = {self.gpu_hours:,.3g} {self.gpu.name} hours "
            f"({low:,.3g} to {high:,.3g} at {MFU_RANGE[1]:.2f} to {MFU_RANGE[0]:.2f}); "
            f"on {self.gpus}: {duration(self.hours * HOUR_S)}, communication and loading not counted"
        )


def rate(gpu: Gpu, precision: Precision) -> str:
    """A card's peak in words."""
    return f"{gpu.peak(precision) / 1e12:.3g} TFLOP/s in {precision}"


def gpu_named(name: str) -> Gpu:
    """The GPU of that name. Raises UsageError with the known ones."""
    if name.lower() in GPUS:
        return GPUS[name.lower()]
    near = difflib.get_close_matches(name.lower(), GPUS, n=1)
    raise UsageError(
        f"no GPU named '{name}' in the table",
        hint=(f"did you mean '{near[0]}'? " if near else "") + f"known: {', '.join(GPUS)}",
    )


def duration(seconds: float) -> str:
    """Seconds in the unit one would say them in."""
    for limit, unit, size in ((120, "s", 1.0), (7200, "min", 60.0), (172800, "h", 3600.0)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:,.3g} days"
