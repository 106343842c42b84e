"""One small net exported for real, once: the folders an app team would get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SIZE = "70x98"


class Silent:
    """A Reporter that tells nobody."""

    def stage(self, name: str, title: str, state: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None: ...

    def note(self, text: str) -> None: ...


def lively_checkpoint(path: Path) -> Path:
    """A tiny net with random weights, scaled up so that its map varies with the picture."""
    import torch

    from datk.depth.io_spec import DepthKind
    from datk.models.depth_anything import DepthAnything
    from datk.models.presets import PRESETS
    from datk.models.weights import save_checkpoint

    torch.manual_seed(0)
    net = DepthAnything(PRESETS["tiny"], depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_uniform_(module.weight, a=1.0)
    net.depth_head.scratch.output_conv2[2].weight.data.abs_()
    net.depth_head.scratch.output_conv2[2].bias.data.fill_(0.3)
    save_checkpoint(net, path, metadata={"licence": "Apache-2.0"})
    return path


def export(run_dir: Path, checkpoint: Path, *sections: dict) -> Path:
    """Run the stages that make export folders, without measuring anything."""
    from datk.config.load import recipe_from_dict
    from datk.pipeline.execute import Selection, execute
    from datk.pipeline.route import stages_of

    recipe = recipe_from_dict(
        {"name": "ship", "checkpoints": {"student": str(checkpoint)}, "targets": list(sections)}, where="test"
    )
    quantised = any("int8" in s["precisions"] for s in sections)
    verbs = ("student", "export", *(("calibration", "quantize") if quantised else ()))
    stages = [s for s in stages_of(recipe) if s.verb in verbs]
    done = execute(stages, run_dir, Selection(), seed=0, recipe_text="test", reporter=Silent())
    assert not done.failures, done.failures
    return run_dir


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_checkpoint(tmp_path_factory.mktemp("weights") / "lively.safetensors")


@pytest.fixture(scope="session")
def exporter() -> Callable[..., Path]:
    """(run folder, checkpoint, target sections...) -> run folder with its exports."""
    return export


@pytest.fixture(scope="session")
def onnx_export(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "ship"
    section = {"name": "onnx", "precisions": ["fp32"], "input_size": SIZE}
    return export(run_dir, checkpoint, section) / "50-export-onnx-fp32"


@pytest.fixture(scope="session")
def tflite_export(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "ship"
    section = {"name": "tflite", "precisions": ["fp16"], "input_size": SIZE}
    return export(run_dir, checkpoint, section) / "50-export-tflite-fp16"


@pytest.fixture(scope="session")
def int8_output_export(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "ship"
    section = {"name": "tflite", "precisions": ["int8"], "input_size": SIZE, "options": {"output": "int8"}}
    return export(run_dir, checkpoint, section) / "50-export-tflite-int8"


@pytest.fixture(scope="session")
def executorch_export(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    pytest.importorskip("executorch", reason="executorch is not installed")
    run_dir = tmp_path_factory.mktemp("runs") / "ship"
    section = {"name": "executorch", "precisions": ["fp32"], "input_size": SIZE}
    return export(run_dir, checkpoint, section) / "50-export-executorch-fp32"


@pytest.fixture(scope="session")
def openvino_export(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    pytest.importorskip("openvino", reason="openvino is not installed")
    run_dir = tmp_path_factory.mktemp("runs") / "ship"
    section = {"name": "openvino", "precisions": ["fp32"], "input_size": SIZE}
    return export(run_dir, checkpoint, section) / "50-export-openvino-fp32"


@pytest.fixture()
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A private copy of an export folder, to be damaged."""
    import shutil

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / folder.name))

    return copy
