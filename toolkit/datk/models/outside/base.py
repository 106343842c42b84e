"""What the families share: a net of somebody else's behind the Teacher protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datk.depth.io_spec import DepthKind
from datk.depth.runner import ImageU8
from datk.depth.teacher import Prepared
from datk.errors import CheckpointError, EnvironmentLacks
from datk.models.outside.folder import EXPERTS, folder_digest, folder_licence


class OpenFamily(Protocol):
    """How a family opens a folder."""

    def __call__(self, folder: Path, *, spec: str, device: str, precision: str) -> OutsideTeacher: ...


@dataclass(frozen=True, kw_only=True)
class Family:
    """prefix: of its specs. config_file[config_key]: the file and key that tell which family it is: model_types."""

    name: str
    prefix: str
    model_types: tuple[str, ...]
    open: OpenFamily
    config_file: str = "config.json"
    config_key: str = "model_type"


class OutsideTeacher(ABC):
    """A net in eval mode on a device. A family gives prepare() and run(), and says what run() returns."""

    def __init__(
        self,
        net: torch.nn.Module,
        folder: Path,
        *,
        spec: str,
        family: str,
        depth_kind: DepthKind,
        device: str,
        precision: str,
        identity: dict[str, Any] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.net: torch.nn.Module | None = net.eval().requires_grad_(False).to(device)
        self.name, self.source = f"{family} ({depth_kind})", spec
        self.digest, self.licence = folder_digest(folder), folder_licence(folder)
        self.depth_kind, self.device, self.precision = depth_kind, device, precision
        self.identity: dict[str, Any] = {"family": family, **(identity or {})}
        self.notes = notes

    @abstractmethod
    def prepare(self, photo: ImageU8) -> Prepared: ...

    @abstractmethod
    def run(self, net: Any, pixels: Tensor) -> Tensor:
        """pixels: (B, 3, h, w) on the device. Returns (B, h', w') in depth_kind."""

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.net is None:
            raise RuntimeError(f"teacher {self.source} is closed")
        half = torch.autocast(self.device, dtype=torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with torch.inference_mode(), half:
            out = self.run(self.net, torch.from_numpy(batch).to(self.device))
        return np.ascontiguousarray(out.float().cpu().numpy())

    def close(self) -> None:
        self.net = None


def load_net(folder: Path, *, spec: str) -> Any:
    """The Hugging Face depth net of a folder, float32, on the CPU.

    Raises EnvironmentLacks without transformers, CheckpointError for weights that do not fit or cannot be read.
    """
    try:
        from transformers import AutoModelForDepthEstimation
        from transformers.utils import logging
    except ImportError as error:
        raise EnvironmentLacks(f"--teacher {spec} needs transformers", hint=EXPERTS) from error

    logging.disable_progress_bar()

    def load() -> Any:
        net, found = AutoModelForDepthEstimation.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        wrong = sorted([*found["missing_keys"], *found["mismatched_keys"]])
        if wrong:
            raise CheckpointError(
                f"{folder}: {len(wrong)} of the net's tensors are missing or of another shape, first {wrong[0]}",
                hint="fetch it again",
            )
        return net

    return _told(load, folder)


def load_processor(folder: Path) -> Any:
    """The image processor that came with the net, in its Pillow form whatever else is installed: one sort of pixels.

    Raises CheckpointError when its file is missing or names a class nobody knows, EnvironmentLacks without Pillow.
    """
    try:
        import PIL  # noqa: F401 - transformers' own message would name another package
        from transformers import AutoImageProcessor
    except ImportError as error:
        raise EnvironmentLacks("image processors of transformers need pillow", hint=EXPERTS) from error
    if not (folder / "preprocessor_config.json").is_file():
        raise CheckpointError(
            f"{folder / 'preprocessor_config.json'}: missing; how this net wants its pictures is not known without it",
            hint="fetch it from where the weights came from",
        )
    return _told(
        lambda: AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False, local_files_only=True
        ),
        folder,
    )


def processed(processor: Any, photo: ImageU8) -> NDArray[np.float32]:
    """(H, W, 3) uint8 RGB -> (3, h, w) float32 as the net's own processor makes it."""
    out = processor(images=photo, input_data_format="channels_last", return_tensors="np")
    return np.ascontiguousarray(out["pixel_values"][0], np.float32)


def _told(load: Callable[[], Any], folder: Path) -> Any:
    """Run a library's loader, its refusals told as ours."""
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: cannot be loaded ({first})", hint="fetch it again") from error
