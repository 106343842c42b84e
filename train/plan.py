"""What a training stage will take: parameters, memory, seconds a step, total; before anything is trained."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from datk.config.metric_section import MetricSection
from datk.config.train_sections import StudentSection, TeacherSection
from datk.depth.io_spec import Size
from datk.errors import EnvironmentLacks, UsageError
from datk.models.depth_anything import DepthAnything
from datk.train.cost import Cost, cost_of_one_image
from datk.train.precision import Precision, autocast, choose_device, choose_precision
from datk.train.projection import MFU, Gpu, rate
from datk.train.start import encoder_spec
from datk.train.world import World

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
    """Memory of one process in bytes, times in seconds."""

    net: str
    parameters: int
    batch_size: int
    steps: int
    processes: int
    sharding: str
    device: str
    precision: Precision
    card_precision: Precision
    """What a card would compute in: bf16 unless the schedule says fp32, whatever this machine can do."""
    weights_bytes: int
    gradients_bytes: int
    optimiser_bytes: int
    """Two Adam moments and, with ema_decay, the average."""
    gathered_bytes: int
    """Under fsdp: what lies outside the blocks and two blocks, whole, while a step computes."""
    activations_kept_bytes: int
    """For the backward pass of the images that go through the net at once, nothing recomputed."""
    activations_recomputed_bytes: int
    """The same with activation checkpointing: each block's input, all of one block, the head."""
    checkpointing: bool
    images_at_once: int
    reference_bytes: int
    """Weights of the frozen nets beside it: the encoder the features come from, the teacher that labels online."""
    available_bytes: int
    flops_per_image: float
    """Forward and backward, recomputation, closer looks and frozen nets included; 2 a multiply-add."""
    step_s: float
    step_s_source: str
    """measured (a few images, scaled to the batch) or estimated (FLOPs over a measured matrix-product rate)."""

    @property
    def activations_bytes(self) -> int:
        return self.activations_recomputed_bytes if self.checkpointing else self.activations_kept_bytes

    @property
    def memory_bytes(self) -> int:
        return self.fixed_bytes + self.activations_bytes

    @property
    def fixed_bytes(self) -> int:
        """What does not depend on the batch."""
        own = self.weights_bytes + self.gradients_bytes + self.optimiser_bytes
        return own + self.gathered_bytes + self.reference_bytes

    @property
    def flops_per_step(self) -> float:
        return self.flops_per_image * self.batch_size

    @property
    def images(self) -> int:
        """Samples seen in all."""
        return self.steps * self.batch_size

    @property
    def total_s(self) -> float:
        return self.steps * self.step_s

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= self.available_bytes

    def memory_words(self) -> str:
        """The memory sum of one process in words."""
        terms = {
            "weights": self.weights_bytes,
            "gradients": self.gradients_bytes,
            "optimiser": self.optimiser_bytes,
            "gathered blocks": self.gathered_bytes,
            f"activations of {self.images_at_once} images": self.activations_bytes,
            "frozen nets": self.reference_bytes,
        }
        said = " + ".join(f"{name} {size / GIB:.2f}" for name, size in terms.items() if size)
        shared = f" a process ({self.sharding} over {self.processes})" if self.processes > 1 else ""
        return f"{said} = {self.memory_bytes / GIB:.2f} GiB{shared}"

    def activations_words(self) -> str:
        """What checkpointing would change."""
        kept, redone = self.activations_kept_bytes / GIB, self.activations_recomputed_bytes / GIB
        used = "used" if self.checkpointing else "not used"
        return f"{kept:.2f} GiB kept, {redone:.2f} GiB with activation_checkpointing ({used})"

    def arithmetic(self) -> str:
        """The memory sum against what there is."""
        return (
            f"{self.net}, batch {self.batch_size}: {self.memory_words()}, "
            f"available {self.available_bytes / GIB:.2f} GiB on {self.device}"
        )


def plan(
    section: TeacherSection | StudentSection | MetricSection,
    *,
    teacher_size: str | None = None,
    measure: bool = True,
    processes: int = 1,
    card: Gpu | None = None,
) -> Plan:
    """Estimate a stage. teacher_size: preset of the teacher where its encoder gives the features or it labels online.

    With measure, forward and backward of a few images are timed where that is expected to take seconds; a
    schedule.budget_s then sets the steps. processes: how many share a step. card: plan for that GPU, whatever this
    machine has, in bf16 unless the schedule says fp32. Raises EnvironmentLacks for a device or precision that is not
    there, UsageError for processes that do not divide the batch.
    """
    schedule = section.schedule
    World(size=processes).check_divides(schedule.batch_size)
    device = torch.device("cpu") if card is not None else choose_device(schedule.device)
    card_precision: Precision = "fp32" if schedule.precision == "fp32" else "bf16"
    precision = choose_precision(schedule.precision, device) if card is None else card_precision
    encoder = None if isinstance(section, MetricSection) else section.encoder
    foreign = None if encoder is None else encoder_spec(encoder, section.size).to_json()
    cost = cost_of_one_image(section.size, section.input_size, foreign)
    flops = cost.flops_recomputing if schedule.activation_checkpointing else cost.flops
    reference = _reference_size(section, teacher_size)
    reference_parameters = 0
    if reference is not None:
        with torch.device("meta"):
            followed = DepthAnything(reference)
        reference_parameters = sum(p.numel() for p in followed.pretrained.parameters())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            followed.pretrained(torch.empty(1, 3, *section.input_size, device="meta"))
        flops += counter.get_total_flops()
    kept, kept_recomputing = cost.kept, cost.kept_recomputing
    if isinstance(section, StudentSection) and section.cross_context is not None:
        looks = _closer_looks(section, foreign, teacher_size)
        flops += looks.flops_recomputing if schedule.activation_checkpointing else looks.flops
        kept, kept_recomputing = kept + looks.kept, kept_recomputing + looks.kept_recomputing
        already = reference_parameters if section.feature_source == "teacher_encoder" else 0
        reference_parameters += looks.parameters - already
    own = schedule.batch_size // processes
    at_once = min(own, schedule.micro_batch or own)
    if card is not None:
        image_s = flops / (card.peak(precision) * MFU)
        source = f"estimated: FLOPs / ({rate(card, precision)} x {MFU:.2f})"
    else:
        image_s, source = flops / (_matmul_flops_per_s(device, precision) * EFFICIENCY), "estimated"
        probe = min(PROBE_IMAGES, at_once)
        if measure and reference_parameters == 0 and image_s * probe < LONGEST_PROBE_S:
            image_s, source = _timed_image_s(section.size, section.input_size, probe, device, precision), "measured"
    step_s = image_s * own
    shrink = (BF16_ACTIVATIONS if precision == "bf16" else 1.0) * at_once
    shards = processes if schedule.sharding == "fsdp" else 1
    return Plan(
        net=section.size if encoder is None else f"{section.size} on {encoder.family}",
        parameters=cost.parameters,
        batch_size=schedule.batch_size,
        steps=schedule.steps if schedule.budget_s is None else max(1, int(schedule.budget_s / step_s)),
        processes=processes,
        sharding=schedule.sharding,
        device=str(device) if card is None else card.name,
        precision=precision,
        card_precision=card_precision,
        weights_bytes=4 * cost.parameters // shards,
        gradients_bytes=4 * cost.trainable // shards,
        optimiser_bytes=4 * cost.trainable * (2 if schedule.ema_decay is None else 3) // shards,
        gathered_bytes=4 * cost.gathered if shards > 1 else 0,
        activations_kept_bytes=int(kept * shrink),
        activations_recomputed_bytes=int(kept_recomputing * shrink),
        checkpointing=schedule.activation_checkpointing,
        images_at_once=at_once,
        reference_bytes=4 * reference_parameters,
        available_bytes=available_memory_bytes(device) if card is None else card.memory_bytes,
        flops_per_image=float(flops),
        step_s=step_s,
        step_s_source=source,
    )


def require_fit(planned: Plan) -> None:
    """Raise EnvironmentLacks with the arithmetic when the memory does not suffice."""
    if not planned.fits:
        spare = planned.available_bytes - planned.fixed_bytes
        images = int(spare / (planned.activations_bytes / planned.images_at_once))
        hint = "take a smaller --size or a machine with more memory"
        if images >= 1:
            hint = f"schedule.micro_batch: {images} would fit and gives the same steps"
            if planned.net == "mobile":
                hint = f"schedule.micro_batch: {images} would fit; BatchNorm then sees so many images at once"
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


def _reference_size(section: TeacherSection | StudentSection | MetricSection, teacher_size: str | None) -> str | None:
    """Preset of the frozen encoder a student is aligned with, or None."""
    if not isinstance(section, StudentSection) or section.loss.feature_weight == 0:
        return None
    by_source = {"dinov2_checkpoint": section.dinov2_size, "teacher_encoder": teacher_size, "off": None}
    return by_source[section.feature_source]


def _closer_looks(section: StudentSection, foreign: str | None, teacher_size: str | None) -> Cost:
    """What cross-context distillation adds to an image: the frozen teacher's pass, the student's where it makes one.

    parameters: the teacher's. Raises UsageError when the teacher's size is not known.
    """
    assert section.cross_context is not None
    if teacher_size is None:
        raise UsageError(
            "student.cross_context: what the teacher's passes cost is not known, as its size is not",
            hint="name one of our checkpoints that is there (checkpoints.teacher), or a teacher section",
        )
    size = section.cross_context.input_size or section.input_size
    teacher = cost_of_one_image(teacher_size, size)
    kept = kept_recomputing = 0
    flops = flops_recomputing = teacher.flops_forward
    if section.cross_context.shared_weight > 0:
        own = cost_of_one_image(section.size, size, foreign)
        kept, kept_recomputing = own.kept, own.kept_recomputing
        flops, flops_recomputing = flops + own.flops, flops_recomputing + own.flops_recomputing
    return replace(
        teacher, kept=kept, kept_recomputing=kept_recomputing, flops=flops, flops_recomputing=flops_recomputing
    )


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
