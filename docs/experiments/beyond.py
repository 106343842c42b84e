"""Measures every key beyond the paper against the plain student, at a size a CPU can pay for: `make experiment`.

Each arm changes one thing and is trained with each seed; what is compared are differences from the baseline of the same
seed, so data order and starting weights cancel. Finished runs are kept: the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datk.artifact.files import write_json
from datk.artifact.provenance import git_state
from datk.config.augment_section import AugmentSection
from datk.config.beyond_sections import CrossContextSection
from datk.config.loss_section import LossSection
from datk.config.train_sections import PseudoLabelSection, ScheduleSection, StudentSection, TeacherSection
from datk.data.photos import builtin_photos
from datk.data.synthetic import generate, load
from datk.depth.preprocess import float_input, read_image, resize_output
from datk.evaluate.benchmarks import mini
from datk.evaluate.benchmarks.pairs import score_pairs
from datk.evaluate.metrics import correlation, score_depth
from datk.evaluate.torch_runner import TorchRunner
from datk.losses.outliers import tails
from datk.models.depth_anything import DepthAnything
from datk.models.weights import load_checkpoint
from datk.pipeline.steps.photos import training_images
from datk.train.labelling.net_teacher import NetTeacher
from datk.train.pseudo_label import label_images
from datk.train.sources import read_depth
from datk.train.student import distill
from datk.train.teacher import train_teacher

SIZE = (42, 56)
LOSS = LossSection(
    output="raw", gradient_ramp=1.0, scale_floor=0.01, anchor_weight=0.5, top_loss_fraction=0.1, log_ranges=True
)
AUGMENT = AugmentSection(min_crop=0.6, max_stretch=1.3, colour=0.3, grey=0.05, noise=0.03)
HELD_OUT, PHOTOS, CALIBRATION = 32, 32, 12
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "shared context": {"cross_context": CrossContextSection(stored_weight=1.0, local_global_weight=0.0)},
    "local-global": {"cross_context": CrossContextSection(stored_weight=1.0, shared_weight=0.0)},
    "cross-context, as published": {"cross_context": CrossContextSection()},
    "hierarchical normalisation": {"loss": {"alignment": "hierarchical"}},
    "two teachers 7:3": {"teacher_weights": (7.0, 3.0)},
    "moving average 0.98": {"schedule": {"ema_decay": 0.98}},
    "kurtosis penalty 0.1": {"loss": {"outlier_weight": 0.1}},
    "CutMix 0.5": {"augment": {"cutmix": 0.5}},
}
COLUMNS = {
    "delta1": ("δ1, held-out scenes, %", 100.0),
    "correlation": ("r, held-out scenes", 1.0),
    "bench": ("mini bench, %", 100.0),
    "kurtosis": ("kurtosis", 1.0),
    "rounded": ("1 - r after 8 bits, 1e-7", 1e7),
    "seconds": ("CPU seconds", 1.0),
}


def schedule(steps: int) -> ScheduleSection:
    """As the quickstart's."""
    return ScheduleSection(
        steps=steps,
        batch_size=8,
        optimiser="adamw",
        encoder_lr=7e-4,
        decoder_lr=7e-4,
        weight_decay=0.05,
        warmup=0.1,
        decay="cosine",
        grad_clip=1.0,
        beta2=0.99,
        precision="fp32",
        device="cpu",
    )


def student(arm: dict[str, Any], steps: int) -> StudentSection:
    """The section of an arm: the baseline's with the arm's values in their places."""
    plain = {"loss": LOSS, "augment": AUGMENT, "schedule": schedule(steps)}
    parts = {name: part.model_copy(update=arm.get(name, {})) for name, part in plain.items()}
    rest = {name: value for name, value in arm.items() if name not in plain}
    return StudentSection(size="tiny", input_size=SIZE, feature_source="off", **parts, **rest)


def material(root: Path, *, scenes: int, teacher_steps: int) -> list[DepthAnything]:
    """Scenes to train on and to judge on, two teachers, and their labels of the shipped photographs."""
    generate(root / "scenes", count=scenes, size=(63, 84), seed=0)
    generate(root / "held-out", count=HELD_OUT, size=(63, 84), seed=1000)
    teachers = []
    images = training_images("builtin", seed=0).source
    for number in (1, 2):
        folder = root / f"teacher{number}"
        if not (folder / "done").exists():
            loss = LOSS.model_copy(update={"top_loss_fraction": 0.0})
            section = TeacherSection(
                size="tiny", input_size=SIZE, loss=loss, augment=AUGMENT, schedule=schedule(teacher_steps)
            )
            train_teacher(section, root / "scenes", folder, seed=number)
            (folder / "done").touch()
        net = load_checkpoint(folder / "teacher.safetensors").net
        section = PseudoLabelSection(input_size=SIZE)
        teacher = NetTeacher(net, source=f"teacher{number}", licence="Apache-2.0", input_size=SIZE)
        label_images(teacher, images, root / f"labels{number}", section)
        teachers.append(load_checkpoint(folder / "teacher.safetensors").net)
    return teachers


def measured(net: DepthAnything, root: Path) -> dict[str, float]:
    """Depth on scenes never trained on, the built-in bench, and how the net bears activations of 8 bits."""
    runner = TorchRunner(net, SIZE, name="student")
    deltas, correlations = [], []
    for item in load(root / "held-out"):
        depth_m = read_depth(Path(item.depth_path))
        found = resize_output(runner.predict_float(read_image(Path(item.image_path))), depth_m.shape)
        score = score_depth(found, depth_m, kind=net.depth_kind)
        if not score.undefined:
            deltas.append(score.delta1)
            correlations.append(score.correlation)
    photos = [float_input(read_image(photo.path), SIZE) for photo in builtin_photos("validation")[:PHOTOS]]
    return {
        "delta1": float(np.mean(deltas)),
        "correlation": float(np.mean(correlations)),
        "bench": score_pairs(runner, mini.load()).overall.accuracy or 0.0,
        **activations(net, [torch.from_numpy(photo) for photo in photos]),
    }


@torch.no_grad()
def activations(net: DepthAnything, photos: list[Tensor]) -> dict[str, float]:
    """kurtosis of the worst block, and 1 - median correlation when every input of a linear layer of the encoder is
    rounded to 255 levels of one range per tensor, taken from the first photographs; the others are judged."""
    kurtosis = []
    plain = []
    for photo in photos:
        net.pretrained.watch = stream = []
        plain.append(net(photo)[0].numpy())
        kurtosis.append(max(float(tails(block).kurtosis) for block in stream))
    net.pretrained.watch = None
    limits: dict[nn.Module, float] = {}
    rounding = False

    def look(module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor] | None:
        if not rounding:
            limits[module] = max(limits.get(module, 0.0), float(given[0].abs().max()))
            return None
        step = limits[module] / 127
        return ((given[0] / step).round().clamp(-127, 127) * step,)

    linear = [module for module in net.pretrained.modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_pre_hook(look) for module in linear]
    for photo in photos[:CALIBRATION]:
        net(photo)
    rounding = True
    kept = [correlation(net(photo)[0].numpy(), p) for photo, p in zip(photos, plain, strict=True)][CALIBRATION:]
    for handle in handles:
        handle.remove()
    return {"kurtosis": float(np.median(kurtosis)), "rounded": 1 - float(np.median(kept))}


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: the baseline's values, then each arm's difference with a 95 % interval over seeds (Student's t)."""
    from scipy import stats

    by_run = {(r["arm"], r["seed"]): r for r in results}
    arms = [arm for arm in ARMS if any(key[0] == arm for key in by_run)]
    lines = ["| arm | seeds | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("|---|---|" + "---|" * len(COLUMNS))
    for arm in arms:
        seeds = sorted(s for a, s in by_run if a == arm and ("baseline", s) in by_run)
        cells = []
        for name, (_, unit) in COLUMNS.items():
            own = np.array([by_run[arm, s][name] for s in seeds]) * unit
            if arm == "baseline":
                cells.append(f"{own.mean():.4g} (sd {own.std(ddof=1):.2g})")
                continue
            gap = own - np.array([by_run["baseline", s][name] for s in seeds]) * unit
            half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap))
            seen = abs(gap.mean()) > half
            cells.append(f"{'**' if seen else ''}{gap.mean():+.3g} ± {half:.2g}{'**' if seen else ''}")
        lines.append(f"| {arm} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Train and measure what is missing, seed by seed; print the table."""
    parser = argparse.ArgumentParser(prog="docs/experiments/beyond.py", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--teacher-steps", type=int, default=150)
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--table", action="store_true", help="print what is there and train nothing")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    if not wanted.table:
        teachers = material(wanted.out, scenes=wanted.scenes, teacher_steps=wanted.teacher_steps)
        write_json(wanted.out / "teachers.json", [measured(net, wanted.out) for net in teachers])
        for seed in range(wanted.seeds):
            for arm, values in ARMS.items():
                run(wanted.out, arm, values, seed, wanted.steps, teachers[0])
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(wanted.out.glob("runs/*/result.json"))]
    print(table(found))
    return 0


def run(root: Path, arm: str, values: dict[str, Any], seed: int, steps: int, teacher: DepthAnything) -> None:
    """One training and its measurements, unless result.json is there."""
    folder = root / "runs" / f"{list(ARMS).index(arm):02d}-{seed}"
    if (folder / "result.json").exists():
        return
    section = student(values, steps)
    labels = [root / "labels1", root / "labels2"] if section.teacher_weights else root / "labels1"
    begun = time.process_time()
    images = training_images("builtin", seed=0).source
    result = distill(section, labels, teacher, folder, seed=seed, images=images)
    seconds = time.process_time() - begun
    found = {"arm": arm, "seed": seed, "steps": steps, "seconds": seconds, "git": git_state(Path(__file__).parent)}
    found |= measured(load_checkpoint(result.weights).net, root)
    write_json(folder / "result.json", found)
    print(
        f"{arm}, seed {seed}: {seconds:.0f} CPU s, δ1 {found['delta1']:.3f}, bench {found['bench']:.3f}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
