"""`datk verify`: whatever is wrong with an export folder is found and named, without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datk.artifact.files import sha256_file
from datk.artifact.sums import write_sums
from datk.artifact.verify import GOLDEN, SUMS, Check, check_files, compare, files_below, read_ppm, verify
from datk.depth.io_spec import Contract
from datk.depth.preprocess import bucket_image
from datk.errors import UsageError
from datk.pipeline.ship.golden import APP, NAMES, golden_images
from datk.pipeline.verifying import verify_export

ROOT = Path(__file__).parents[3]
Copy = Callable[[Path], Path]


def failed(checks: list[Check]) -> list[Check]:
    return [c for c in checks if c.status == "failed"]


def test_a_fresh_export_holds(onnx_export: Path) -> None:
    checks = verify_export(onnx_export)
    assert not failed(checks), failed(checks)
    assert sum(c.name.startswith("golden ") for c in checks) == 2 * len(NAMES)
    assert {"files", "contract", "manifest"} <= {c.name for c in checks}


def test_a_flipped_byte_in_any_file_fails_and_names_the_file(onnx_export: Path, copy_of: Copy) -> None:
    folder = copy_of(onnx_export)
    rng = np.random.default_rng(0)
    names = files_below(folder)
    assert {"contract.json", "manifest.json", "model.onnx", "verify.py", SUMS, GOLDEN} <= set(names)
    for name in names:
        whole = (folder / name).read_bytes()
        for position in {0, len(whole) - 1, int(rng.integers(len(whole)))}:
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(damaged)
            wrong = failed(check_files(folder))
            assert wrong, (name, position)
            assert name == SUMS or name in {c.file for c in wrong}
        (folder / name).write_bytes(whole)
    assert not failed(check_files(folder))


def test_every_byte_of_the_list_itself_counts(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text("{}")
    (tmp_path / "b").write_text("b")
    whole = write_sums(tmp_path).read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            (tmp_path / SUMS).write_bytes(damaged)
            assert failed(check_files(tmp_path)), (position, bit)


def test_the_list_is_one_that_coreutils_reads(onnx_export: Path) -> None:
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("no sha256sum on this machine")
    assert subprocess.run([tool, "--check", "--strict", "--quiet", SUMS], cwd=onnx_export).returncode == 0


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", GOLDEN, SUMS])
def test_a_missing_file_is_named(onnx_export: Path, copy_of: Copy, name: str) -> None:
    folder = copy_of(onnx_export)
    (folder / name).unlink()
    assert name in {c.file for c in failed(verify_export(folder))}


def test_a_file_that_is_not_of_the_export_is_named(onnx_export: Path, copy_of: Copy) -> None:
    folder = copy_of(onnx_export)
    (folder / "golden" / "more.txt").write_text("mine")
    assert [c.file for c in failed(verify_export(folder, run=False))] == ["golden/more.txt"]


def test_a_golden_result_that_does_not_come_out_fails(onnx_export: Path, copy_of: Copy) -> None:
    """The list is written anew, as someone would who exchanged the file: the run itself must tell."""
    folder = copy_of(onnx_export)
    path = folder / "golden" / "kodak_0001.artifact.f32"
    (np.fromfile(path, "<f4") * 1.1).astype("<f4").tofile(path)
    write_sums(folder)
    assert {c.name for c in failed(verify_export(folder))} == {"golden kodak_0001"}


def test_golden_files_of_another_size_fail_without_a_traceback(onnx_export: Path, copy_of: Copy) -> None:
    folder = copy_of(onnx_export)
    path = folder / "golden" / "kodak_0001.input.ppm"
    path.write_bytes(b"P6\n9 9\n255\n" + bytes(3))
    write_sums(folder)
    assert [c.file for c in failed(verify_export(folder))] == [GOLDEN]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"larger_is": "farther"}, "larger_is farther"),
        ({"input_size": [70, 100]}, "not a multiple of 14"),
        ({"artifact": "other.onnx"}, "names the artifact other.onnx"),
        ({"input": {}}, "not a contract"),
        ({"schema_version": 9}, "schema version 9"),
    ],
)
def test_a_contract_that_contradicts_itself_fails(onnx_export: Path, copy_of: Copy, change: dict, words: str) -> None:
    folder = copy_of(onnx_export)
    value = json.loads((folder / "contract.json").read_text()) | change
    (folder / "contract.json").write_text(json.dumps(value))
    write_sums(folder)
    assert any(words in c.detail for c in failed(verify_export(folder))), verify_export(folder)


def test_an_artifact_of_another_export_fails(onnx_export: Path, copy_of: Copy) -> None:
    folder = copy_of(onnx_export)
    value = json.loads((folder / "contract.json").read_text())
    value["input"]["name"] = "picture"
    (folder / "contract.json").write_text(json.dumps(value))
    write_sums(folder)
    wrong = failed(verify_export(folder))
    assert {"manifest.json", "model.onnx"} <= {c.file for c in wrong}, wrong


def test_a_rejected_export_does_not_verify(onnx_export: Path, copy_of: Copy) -> None:
    folder = copy_of(onnx_export)
    value = json.loads((folder / "manifest.json").read_text())
    value["verdict"] = {"status": "rejected", "reasons": ["fp16-range: overflow"]}
    (folder / "manifest.json").write_text(json.dumps(value))
    write_sums(folder)
    assert [c.name for c in failed(verify_export(folder))] == ["verdict"]


def test_a_folder_that_is_no_export_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder that datk exported"):
        verify_export(tmp_path)


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "toolkit"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_command_exits_3_naming_the_file_and_loads_no_torch(onnx_export: Path, copy_of: Copy) -> None:
    code = (
        "import sys\nfrom datk.cli.main import main\nsys.argv = ['datk', 'verify', sys.argv[1]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('EXIT', end.code or 0)\n"
        "print('LOADED', [m for m in ('torch', 'nncf', 'onnx') if m in sys.modules])"
    )
    done = run("-c", code, str(onnx_export))
    assert "EXIT 0" in done.stdout and "LOADED []" in done.stdout, done.stdout + done.stderr
    folder = copy_of(onnx_export)
    with (folder / "model.onnx").open("ab") as handle:
        handle.write(b"\0")
    done = run("-c", code, str(folder))
    assert "EXIT 3" in done.stdout and "model.onnx: changed since the export" in done.stdout, done.stdout + done.stderr


def test_the_copy_in_the_folder_stands_by_itself(onnx_export: Path, copy_of: Copy) -> None:
    assert sha256_file(onnx_export / "verify.py") == sha256_file(ROOT / "toolkit/datk/artifact/verify.py")
    folder = copy_of(onnx_export)
    done = subprocess.run([sys.executable, "-I", str(folder / "verify.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "golden" / "skimage_0001.ppm").unlink()
    done = subprocess.run([sys.executable, "-I", str(folder / "verify.py"), "--json"], capture_output=True, text=True)
    assert done.returncode == 3
    assert [c["file"] for c in json.loads(done.stdout) if c["status"] == "failed"] == ["golden/skimage_0001.ppm"]


def test_the_pack_tells_every_mistake_apart(onnx_export: Path) -> None:
    """Before any app exists: the photographs are such that each mistake moves the input beyond what is allowed."""
    contract = Contract.model_validate_json((onnx_export / "contract.json").read_text())
    for image in golden_images(contract):
        right = image.bucket.astype(np.float64)
        assert np.array_equal(read_ppm(onnx_export / f"golden/{image.name}.input.ppm"), image.bucket)
        assert np.array_equal(read_ppm(onnx_export / f"golden/{image.name}.ppm"), image.photo)
        side = min(image.photo.shape[:2])
        crop = bucket_image(image.photo[:side, :side], contract.input_size)
        for wrong in (right[..., ::-1], crop, right / 255):
            assert np.abs(wrong - right).mean() > 3 * APP["max_input_difference"], image.name
    assert len({i.photo.shape for i in golden_images(contract)}) > 1


def test_golden_photographs_have_a_licence_of_their_own(onnx_export: Path) -> None:
    for image in json.loads((onnx_export / GOLDEN).read_text())["images"]:
        assert image["licence"] and image["credit"] and image["source"], image["name"]


def test_comparison_keeps_the_sign_and_sees_what_is_not_finite() -> None:
    ramp = np.linspace(0, 1, 12).reshape(3, 4)
    assert compare(ramp, ramp) == (pytest.approx(1.0), 0.0)
    assert compare(1 - ramp, ramp)[0] == pytest.approx(-1.0)
    assert compare(np.where(ramp > 0.9, np.nan, ramp), ramp) == (-1.0, float("inf"))
    assert compare(np.ones((3, 4)), ramp)[0] == -1.0
    assert compare(np.ones((3, 4)), np.ones((3, 4)))[0] == 1.0


def test_a_runtime_that_is_missing_is_not_a_pass(onnx_export: Path) -> None:
    from datk.artifact.verify import Lacks, main

    def nobody(path: Path, contract: dict) -> None:
        raise Lacks("no runtime")

    with pytest.raises(Lacks):
        verify(onnx_export, nobody)
    assert main([str(onnx_export), "--files-only"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        assert main([str(onnx_export)]) == 4


def test_a_runtime_that_refuses_the_file_is_a_failure_with_its_words(
    onnx_export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datk.artifact import verify as module

    def refuses(path: Path, contract: dict) -> None:
        raise RuntimeError("no kernel for TRANSPOSE_CONV")

    monkeypatch.setattr(module, "_open_onnx", refuses)
    assert module.main([str(onnx_export)]) == 3
    assert "failed  golden: : the runtime here cannot load it: no kernel for TRANSPOSE_CONV" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("here", "least", "words"),
    [
        ("litert 2.3", 0.999, "itself at export:"),
        ("litert 2.4", 0.98, "itself at export, by litert 2.3, here litert 2.4:"),
        (None, 0.999, "itself at export:"),
    ],
)
def test_another_runtime_than_at_export_is_told_and_held_to_less(
    onnx_export: Path, copy_of: Copy, here: str | None, least: float, words: str
) -> None:
    folder = copy_of(onnx_export)
    golden = json.loads((folder / GOLDEN).read_text())
    assert golden["runtime"] is None, "ONNX Runtime's runner names none"
    golden["runtime"] = "litert 2.3"
    golden["tolerance"] |= {"artifact": {"min_correlation": 0.999}, "other_runtime": {"min_correlation": 0.98}}
    (folder / GOLDEN).write_text(json.dumps(golden))
    write_sums(folder)
    random = np.random.default_rng(0)

    def rough(path: Path, contract: dict) -> Callable[[np.ndarray], np.ndarray]:
        """The golden answers with noise of a tenth of their spread: a correlation of about 0.995."""
        maps = iter([np.fromfile(folder / image["artifact"], "<f4") for image in golden["images"]])

        def predict(image: np.ndarray) -> np.ndarray:
            depth = next(maps)
            return depth + random.normal(0, 0.1 * depth.std(), depth.size)

        if here:
            predict.runtime = here  # type: ignore[attr-defined]
        return predict

    own = [c for c in verify(folder, rough) if c.name.startswith("golden") and "itself at export" in c.detail]
    assert len(own) == 3
    assert all(words in c.detail and f"needed {least}" in c.detail for c in own), own
    assert {c.status for c in own} == {"passed" if least == 0.98 else "failed"}
