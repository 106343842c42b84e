"""The saved folder: its bytes, its weight file, its metadata, and what happens when one of them is damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datk.artifact.files import sha256_file
from datk.depth.io_spec import Contract
from datk.errors import DataError, TargetError
from datk.targets.coreml.reference.blob import BlobFile
from datk.targets.coreml.reference.evaluator import Evaluator
from datk.targets.coreml.reference.program import read_program
from datk.targets.coreml.runner import open_artifact
from datk.targets.coreml.seal import CONTRACT_KEY

WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")


class Net(nn.Module):
    """A convolution wide enough that its weights go to the weight file."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.out = nn.Conv2d(32, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.conv(x / 64))).squeeze(1)


@pytest.fixture(scope="module")
def saved(bench: Any) -> Path:
    return bench.package(Net(), "fp32", name="saved")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy.mlpackage"))


def predict(path: Path, bench: Any) -> np.ndarray:
    return open_artifact(path, bench.contract("fp32")).predict(bench.image())


def test_runner_equals_torch(saved: Path, bench: Any) -> None:
    with torch.no_grad():
        expected = Net()(bench.pixels())[0].numpy()
    np.testing.assert_allclose(predict(saved, bench), expected, rtol=1e-5, atol=1e-5)


def test_changing_one_weight_byte_on_disk_changes_the_result(copy: Path, bench: Any) -> None:
    before = predict(copy, bench)
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[128 + 3] ^= 0x40  # the exponent of the first blob's first float
    (copy / WEIGHTS).write_bytes(data)
    assert not np.array_equal(predict(copy, bench), before)


def test_equal_nets_give_equal_bytes(saved: Path, workshop: Any) -> None:
    """The second conversion in a process, too: the converter's own counters must not show."""
    assert sha256_file(workshop.package(Net(), "fp32")) == sha256_file(saved)


def test_apples_own_reader_takes_the_package(saved: Path) -> None:
    """coremltools opens packages with Apple's model-package library, which checks the manifest."""
    import coremltools as ct

    model = ct.models.MLModel(str(saved), skip_model_load=True)
    assert Path(model.weights_dir, "weight.bin").stat().st_size == (saved / WEIGHTS).stat().st_size


def test_weight_file_reads_as_apples_library_reads_it(saved: Path) -> None:
    from coremltools.libmilstoragepython import _BlobStorageReader

    from datk.targets.coreml.reference.program import read_specification

    blobs = BlobFile(saved / WEIGHTS)
    apple = _BlobStorageReader(str(saved / WEIGHTS))
    block = read_specification(saved / MODEL).mlProgram.functions["main"].block_specializations["CoreML7"]
    offsets = [
        op.attributes["val"].blobFileValue.offset
        for op in block.operations
        if op.type == "const" and op.attributes["val"].HasField("blobFileValue")
    ]
    assert len(offsets) == blobs.count > 0
    for offset in offsets:
        np.testing.assert_array_equal(blobs.read(offset), apple.read_float_data(offset))


@pytest.mark.parametrize("kind", ["float16", "float32", "int8", "uint8"])
def test_blobs_written_by_apples_library_read_back(kind: str, tmp_path: Path) -> None:
    from coremltools.libmilstoragepython import _BlobStorageWriter

    values = np.arange(100).astype(kind)
    writer = _BlobStorageWriter(str(tmp_path / "weight.bin"))
    method = {"float16": "fp16", "float32": "float"}.get(kind, kind)
    offset = getattr(writer, f"write_{method}_data")(values.view(np.uint16) if kind == "float16" else values)
    del writer  # closes the file
    read = BlobFile(tmp_path / "weight.bin").read(offset)
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


def test_package_carries_contract_sign_and_no_date(saved: Path, bench: Any) -> None:
    program = read_program(saved)
    assert Contract.model_validate_json(program.metadata[CONTRACT_KEY]) == bench.contract("fp32")
    assert "Larger is nearer" in program.description
    assert not [key for key in program.metadata if "date" in key]
    assert sorted(p.name for p in saved.iterdir()) == ["Data", "Manifest.json"]


def test_truncated_weight_file_is_named(copy: Path, bench: Any) -> None:
    data = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(TargetError, match=r"weight\.bin.*(do not fit|no record)"):
        predict(copy, bench)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (Path("Manifest.json"), "no Manifest"),
        (MODEL, "specification is missing"),
        (WEIGHTS, "weight file is missing"),
    ],
)
def test_missing_part_is_named(damaged: Path, message: str, copy: Path) -> None:
    (copy / damaged).unlink()
    with pytest.raises(TargetError, match=message):
        read_program(copy)


def test_broken_manifest_and_specification_are_named(copy: Path) -> None:
    (copy / MODEL).write_bytes(b"\xff" * 40)
    with pytest.raises(TargetError, match="not a Core ML model specification"):
        read_program(copy)
    (copy / "Manifest.json").write_text(json.dumps({"itemInfoEntries": {}}))
    with pytest.raises(TargetError, match="not a package manifest"):
        read_program(copy)


def test_weight_file_outside_the_package_is_refused(copy: Path) -> None:
    from datk.targets.coreml.reference.program import read_specification

    spec = read_specification(copy / MODEL)
    for op in spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations:
        if op.type == "const" and op.attributes["val"].HasField("blobFileValue"):
            op.attributes["val"].blobFileValue.fileName = "@model_path/../../../secret.bin"
    (copy / MODEL).write_bytes(spec.SerializeToString())
    with pytest.raises(TargetError, match="outside the package"):
        read_program(copy)


def test_unknown_operation_is_named_with_its_output(saved: Path) -> None:
    program = read_program(saved)
    relu = next(op for op in program.operations if op.type == "relu")
    object.__setattr__(relu, "type", "fancy_relu")
    with pytest.raises(TargetError, match=rf"'fancy_relu' \(output '{relu.name}'\).*cannot be judged here"):
        Evaluator(program)


def test_unknown_input_of_an_operation_is_named(saved: Path) -> None:
    program = read_program(saved)
    relu = next(op for op in program.operations if op.type == "relu")
    relu.inputs["slope"] = relu.inputs["x"]
    with pytest.raises(TargetError, match=r"'relu'.*slope.*cannot be judged here"):
        Evaluator(program)


def test_wrong_image_is_a_data_error(saved: Path, bench: Any) -> None:
    runner = open_artifact(saved, bench.contract("fp32"))
    for wrong in (bench.image((8, 6)), bench.image().astype(np.float32)):
        with pytest.raises(DataError, match="expected a uint8 RGB image"):
            runner.predict(wrong)


def test_contract_of_another_size_is_refused(saved: Path, bench: Any) -> None:
    with pytest.raises(TargetError, match="the contract says"):
        open_artifact(saved, bench.contract("fp32", (14, 28)))


def test_closed_runner_says_so(saved: Path, bench: Any) -> None:
    runner = open_artifact(saved, bench.contract("fp32"))
    runner.close()
    runner.close()
    with pytest.raises(TargetError, match="closed"):
        runner.predict(bench.image())


def test_converter_refusal_keeps_its_words_and_leaves_nothing(workshop: Any) -> None:
    class Refused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(TargetError, match=r"coremltools refused the net for fp32.*bessel"):
        workshop.package(Refused(), "fp32")
    assert not list(workshop.folder.iterdir())


def test_conversion_is_silent(workshop: Any, capfd: pytest.CaptureFixture[str]) -> None:
    workshop.package(Net(), "fp16")
    assert capfd.readouterr() == ("", "")
