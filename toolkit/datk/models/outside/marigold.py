"""Marigold (Ke et al. 2024, arXiv 2312.02145): depth by diffusion, up to scale and shift, through diffusers.

Diffusion begins with noise: here the same for every picture of a size, so that a picture's map never changes.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datk.depth.io_spec import DepthKind
from datk.depth.runner import ImageU8
from datk.depth.teacher import FAR_OVER_NEAR, Prepared
from datk.errors import CheckpointError, EnvironmentLacks
from datk.models.outside.base import Family, OutsideTeacher
from datk.models.outside.folder import EXPERTS

STEPS, LONG_SIDE = 4, 768
"""Where the pipeline's own configuration does not say: the published v1-1's figures."""
NOISE_SEED = 0


class MarigoldTeacher(OutsideTeacher):
    """pipeline: diffusers' own; the net the base class moves about is its U-Net."""

    pipeline: Any
    long_side: int
    steps: int

    def prepare(self, photo: ImageU8) -> Prepared:
        """Long side to `long_side`, bilinear with smoothing, 0..1; the pipeline pads and cuts back by itself."""
        pixels = torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1)))[None].float() / 255
        longest = max(photo.shape[:2])
        size = [max(1, side * self.long_side // longest) for side in photo.shape[:2]]
        small = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return Prepared(np.ascontiguousarray(small[0].clamp(0, 1).numpy()))

    def run(self, net: Any, pixels: Tensor) -> Tensor:
        del net
        grain = self.pipeline.vae_scale_factor
        shape = (
            1,
            self.pipeline.vae.config.latent_channels,
            ceil(pixels.shape[2] / grain),
            ceil(pixels.shape[3] / grain),
        )
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(NOISE_SEED)).to(self.device)
        with torch.random.fork_rng(devices=None if self.device == "cuda" else []):
            torch.manual_seed(NOISE_SEED)  # a consistency scheduler draws noise of its own in every step
            out = self.pipeline(
                pixels,
                num_inference_steps=self.steps,
                processing_resolution=0,
                match_input_resolution=False,
                batch_size=len(pixels),
                latents=noise.expand(len(pixels), -1, -1, -1).contiguous(),
                output_type="pt",
            )
        maps: Tensor = out.prediction[:, 0]
        return maps

    def close(self) -> None:
        super().close()
        self.pipeline = None


def open_marigold(folder: Path, *, spec: str, device: str, precision: str) -> OutsideTeacher:
    try:
        from diffusers import MarigoldDepthPipeline
        from diffusers.utils import logging
    except ImportError as error:
        raise EnvironmentLacks(f"--teacher {spec} needs diffusers", hint=EXPERTS) from error
    logging.disable_progress_bar()
    try:
        pipeline = MarigoldDepthPipeline.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: cannot be loaded ({first})", hint="fetch it again") from error
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    kind, notes = _quantity(folder, str(pipeline.config.prediction_type))
    steps = int(pipeline.default_denoising_steps or STEPS)
    long_side = int(pipeline.default_processing_resolution or LONG_SIDE)
    teacher = MarigoldTeacher(
        pipeline.unet,
        folder,
        spec=spec,
        family="marigold",
        depth_kind=kind,
        device=device,
        precision=precision,
        identity={"steps": steps, "long_side": long_side, "noise_seed": NOISE_SEED},
        notes=notes,
    )
    teacher.pipeline, teacher.steps, teacher.long_side = pipeline, steps, long_side
    return teacher


def _quantity(folder: Path, prediction: str) -> tuple[DepthKind, tuple[str, ...]]:
    if prediction == "disparity":
        return DepthKind.DISPARITY_AFFINE_INVARIANT, ()
    if prediction == "depth":
        note = (
            "Marigold gives depth without scale and shift: its disparity assumes that the farthest point is "
            f"{FAR_OVER_NEAR:g} times as far as the nearest; the order of points is not touched by that"
        )
        return DepthKind.DEPTH_AFFINE_INVARIANT, (note,)
    raise CheckpointError(
        f"{folder / 'model_index.json'}: prediction_type '{prediction}', expected depth or disparity",
        hint="name a Marigold depth model",
    )


FAMILY = Family(
    name="marigold",
    prefix="marigold",
    model_types=("MarigoldDepthPipeline", "MarigoldPipeline"),
    open=open_marigold,
    config_file="model_index.json",
    config_key="_class_name",
)
