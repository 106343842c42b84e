"""What a training stage will take: parameters, memory, seconds a step, total; before anything is trained."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datk.config.train_sections import StudentSection, TeacherSection
from datk.depth.io_spec import Size
from datk.errors import EnvironmentLacks
from datk.models.depth_anything import DepthAnything
from datk.train.precision import Precision, autocast, choose_device, choose_precision

EFFICIENCY = 0.45
"""Share of the measured matrix-product rate a training step reaches; measured 0.4 to 0.6 on CPUs for these nets."""
BF16_ACTIVATIONS = 0.6
"""Size of the kept activations under bf16 autocast relative to float32; LayerNorm and softmax keep float32."""
LONGEST_PROBE_S = 20.0
"""A probe estimated to take longer than this is not run."""
PROBE_IMAGES = 4
"""Images timed together; one alone would take more than its share of a batch."""
GIB = 1024**3


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes, times in seconds."""

    net: str
    parameters: int
    batch_size: int
    steps: int
    device: str
    precision: Precision
    weights_bytes: int
    optimiser_bytes: int
    """Gradients, two Adam moments and, with ema_decay, the average."""
    activations_bytes: int
    """Kept for the backward pass, whole batch."""
    reference_bytes: int
    """Weights of the frozen encoder the features come from."""
    available_bytes: int
    flops_per_step: float
    step_s: float
    step_s_source: str
    """measured (a few images, scaled to the batch) or estimated (FLOPs over a measured matrix-product rate)."""

    @property
    def memory_bytes(self) -> int:
        return self.weights_bytes + self.optimiser_bytes + self.activations_bytes + self.reference_bytes

    @property
    def total_s(self) -> float:
        return self.steps * self.step_s

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= self.available_bytes

    def arithmetic(self) -> str:
        """The memory sum in words."""
        gib = [
            b / GIB for b in (self.weights_bytes, self.optimiser_bytes, self.activations_bytes, self.reference_bytes)
        ]
        return (
            f"{self.net}, batch {self.batch_size}: weights {gib[0]:.2f} + gradients and optimiser {gib[1]:.2f} + "
            f"activations {gib[2]:.2f} + reference encoder {gib[3]:.2f} = {self.memory_bytes / GIB:.2f} GiB, "
            f"available {self.available_bytes / GIB:.2f} GiB on {self.device}"
        )


def plan(section: TeacherSection | StudentSection, *, teacher_size: str | None = None, measure: bool = True) -> Plan:
    """Estimate a stage. teacher_size: preset of the teacher where its encoder gives the features.

    With measure, forward and backward of a few images are timed where that is expected to take seconds; a
    schedule.budget_s then sets the steps. Raises EnvironmentLacks for a device or precision that is not there.
    """
    schedule = section.schedule
    device = choose_device(schedule.device)
    precision = choose_precision(schedule.precision, device)
    with torch.device("meta"):
        net = DepthAnything(section.size)
    parameters = sum(p.numel() for p in net.parameters())
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    kept, flops = _cost_of_one_image(section.size, section.input_size)
    reference = _reference_size(section, teacher_size)
    reference_parameters = 0
    if reference is not None:
        with torch.device("meta"):
            encoder = DepthAnything(reference)
        reference_parameters = sum(p.numel() for p in encoder.pretrained.parameters())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder.pretrained(torch.empty(1, 3, *section.input_size, device="meta"))
        flops += counter.get_total_flops()
    image_s, source = flops / (_matmul_flops_per_s(device, precision) * EFFICIENCY), "estimated"
    probe = min(PROBE_IMAGES, schedule.batch_size)
    if measure and reference is None and image_s * probe < LONGEST_PROBE_S:
        image_s, source = _timed_image_s(section.size, section.input_size, probe, device, precision), "measured"
    step_s = image_s * schedule.batch_size
    shrink = BF16_ACTIVATIONS if precision == "bf16" else 1.0
    return Plan(
        net=section.size,
        parameters=parameters,
        batch_size=schedule.batch_size,
        steps=schedule.steps if schedule.budget_s is None else max(1, int(schedule.budget_s / step_s)),
        device=str(device),
        precision=precision,
        weights_bytes=4 * parameters,
        optimiser_bytes=4 * trainable * (3 if schedule.ema_decay is None else 4),
        activations_bytes=int(kept * schedule.batch_size * shrink),
        reference_bytes=4 * reference_parameters,
        available_bytes=available_memory_bytes(device),
        flops_per_step=float(flops) * schedule.batch_size,
        step_s=step_s,
        step_s_source=source,
    )


def require_fit(planned: Plan) -> None:
    """Raise EnvironmentLacks with the arithmetic when the memory does not suffice."""
    if not planned.fits:
        spare = planned.available_bytes - (planned.memory_bytes - planned.activations_bytes)
        batch = int(spare / (planned.activations_bytes / planned.batch_size))
        hint = f"batch_size: {batch} would fit" if batch >= 1 else "take a smaller --size or a machine with more memory"
        raise EnvironmentLacks(f"training does not fit: {planned.arithmetic()}", hint=hint)


def available_memory_bytes(device: torch.device) -> int:
    """Free memory of the device; for a CPU what the system can give without swapping (all of it where unknown)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _reference_size(section: TeacherSection | StudentSection, teacher_size: str | None) -> str | None:
    """Preset of the frozen encoder a student is aligned with, or None."""
    if isinstance(section, TeacherSection) or section.loss.feature_weight == 0:
        return None
    by_source = {"dinov2_checkpoint": section.dinov2_size, "teacher_encoder": teacher_size, "off": None}
    return by_source[section.feature_source]


@cache
def _cost_of_one_image(size_name: str, size: Size) -> tuple[int, int]:
    """(bytes kept for the backward pass, floating-point operations of a training pass), without computing anything."""
    with torch.device("meta"):
        net = DepthAnything(size_name)
    own = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
    alive: list[torch.UntypedStorage] = []  # an address is an identity only while its owner lives
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        raw, _ = net.forward_train(torch.empty(1, 3, *size, device="meta"))
        raw.sum().backward()
    return sum(kept.values()), counter.get_total_flops()


def _matmul_flops_per_s(device: torch.device, precision: Precision) -> float:
    """Best of a few 1024 x 1024 products; 2 operations a multiply-add."""
    side = 1024 if device.type == "cpu" else 8192
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        begun = time.perf_counter()
        float((a @ a)[0, 0])  # reading one value waits for the device
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best


def _timed_image_s(size_name: str, size: Size, images: int, device: torch.device, precision: Precision) -> float:
    """Seconds an image of forward and backward of a small batch: the faster of two after a first."""
    net = DepthAnything(size_name).to(device)
    image = torch.zeros(images, 3, *size, device=device)
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        with autocast(device, precision):
            raw, _ = net.forward_train(image)
        raw.float().square().mean().backward()
        float(raw.detach()[0, 0, 0])
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:]) / images
