"""The licence chain: what forbids commercial use is named, what is unknown stays unknown, and both are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datk.artifact.licences import Link, blockers, commercial_use
from datk.artifact.manifest import Dataset, InputRef, Manifest, Weights, read_manifest, write_manifest
from datk.data import adapters
from datk.data.photos import builtin_photos
from datk.errors import GateFailed, UsageError
from datk.pipeline.exporting import ExportRequest, plan_export
from datk.pipeline.ship.chain import chain_of_stages, refuse_unless_commercial

ALLOWED = ["Apache-2.0", "MIT", "CC0", "CC0 1.0", "CC BY 4.0", "CC-BY-4.0", "CC BY-SA 3.0", "Apache-2.0 (made here)"]
REFUSED = ["CC-BY-NC-4.0", "cc-by-nc-4.0", "CC BY-NC-SA 3.0", "non-commercial research", "research use, see its page"]
UNKNOWN = ["", "unknown: its README.md names none", "not stated by its authors", "Llama-7", "Apache-2.0 or so"]


@pytest.mark.parametrize(
    ("licence", "use"),
    [*((t, "allowed") for t in ALLOWED), *((t, "refused") for t in REFUSED), *((t, "unknown") for t in UNKNOWN)],
)
def test_a_licence_is_judged_by_its_words(licence: str, use: str) -> None:
    assert commercial_use(licence) == use


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(ALLOWED), min_size=1, max_size=4),
    st.sampled_from(REFUSED + UNKNOWN[1:]),
    st.integers(0, 9),
)
def test_one_bad_part_spoils_a_compound(good: list[str], bad: str, position: int) -> None:
    assert commercial_use("; ".join(good)) == "allowed"
    parts = [*good[: position % (len(good) + 1)], bad, *good[position % (len(good) + 1) :]]
    assert commercial_use("; ".join(parts)) == commercial_use(bad)
    data = ", ".join(f"set{i} ({p})" for i, p in enumerate(parts) if "," not in p)
    if bad in data:
        assert commercial_use(f"MIT; trained on {data}") == commercial_use(bad)
    assert commercial_use(f"MIT; labels by weights under {bad}") == commercial_use(bad)


def test_every_photograph_that_ships_may_be_sold() -> None:
    assert {commercial_use(p.licence) for s in ("train", "validation") for p in builtin_photos(s)} == {"allowed"}


def test_no_data_set_of_doubtful_terms_is_called_free() -> None:
    free = {a.name for a in adapters.available().values() if commercial_use(a.licence) == "allowed"}
    assert free <= {"blendedmvs", "diode", "hypersim", "tartanair", "synthetic"}


def put(run_dir: Path, stage: str, **fields: object) -> None:
    (run_dir / stage).mkdir(parents=True)
    manifest = Manifest(stage=stage, key="k", created_at="2026-01-01T00:00:00+00:00", duration_s=0, **fields)
    write_manifest(manifest, run_dir / stage)


def distilled(run_dir: Path, teacher_licence: str) -> Path:
    """A run whose Apache-2.0 student learned from labels of a teacher under another licence."""
    (run_dir / "00-recipe.yaml").parent.mkdir(parents=True, exist_ok=True)
    (run_dir / "00-recipe.yaml").write_text(
        "name: r\ncheckpoints: {teacher: t.pth}\nstudent: {size: tiny, input_size: 98}\n"
        "targets: [{name: onnx, precisions: [fp32]}]\n"
    )
    teacher = Weights(name="large", sha256="a" * 64, licence=teacher_licence)
    put(run_dir, "10-teacher", weights=[teacher], facts={"format": "official"})
    photos = Dataset(name="photographs", split_sha256="b" * 64, licence="CC0; MIT", n=3)
    before = [InputRef(role="10-teacher", path="10-teacher", sha256="c" * 64)]
    put(run_dir, "20-pseudo-labels", datasets=[photos], inputs=before, facts={"teacher_licence": teacher_licence})
    labels = [InputRef(role="20-pseudo-labels", path="20-pseudo-labels", sha256="d" * 64)]
    own = Weights(name="student tiny", sha256="e" * 64, licence="Apache-2.0")
    put(run_dir, "30-student", weights=[own], datasets=[photos], inputs=labels)
    return run_dir


def test_a_non_commercial_teacher_is_found_behind_the_labels(tmp_path: Path) -> None:
    run_dir = distilled(tmp_path / "r", "CC-BY-NC-4.0")
    chain = chain_of_stages(run_dir, ["30-student"])
    assert [link.role for link in chain][:2] == ["weights", "data of the weights"]
    with pytest.raises(GateFailed, match=r"teacher large: CC-BY-NC-4.0 \(not for commercial use\)") as refusal:
        plan_export(ExportRequest(targets=("onnx",), run=run_dir, commercial=True))
    assert refusal.value.exit_code == 3
    plan_export(ExportRequest(targets=("onnx",), run=run_dir))


def test_a_chain_that_is_free_throughout_passes_and_says_so(tmp_path: Path) -> None:
    run_dir = distilled(tmp_path / "r", "Apache-2.0 (stated by the user)")
    plan = plan_export(ExportRequest(targets=("onnx",), run=run_dir, commercial=True))
    assert any(
        "allow it; the export's NOTICE" in line or "allows it; the export's NOTICE" in line for line in plan.said
    )


def test_weights_that_name_no_licence_are_unknown_until_the_user_states_it(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    anonymous = tmp_path / "depth_anything_v2_anonymous.safetensors"
    from safetensors import safe_open

    with safe_open(checkpoint, framework="pt") as file:
        metadata = {k: v for k, v in file.metadata().items() if k != "licence"}
    save_file(load_file(checkpoint), anonymous, metadata=metadata)
    asked = {"targets": ("onnx",), "commercial": True, "precisions": ("fp32",)}
    plan_export(ExportRequest(checkpoint=checkpoint, **asked))
    with pytest.raises(GateFailed, match=r"unknown: the file names none") as refusal:
        plan_export(ExportRequest(checkpoint=anonymous, **asked))
    assert "--weights-licence" in (refusal.value.hint or "")
    plan_export(ExportRequest(checkpoint=anonymous, weights_licence="Apache-2.0", **asked))
    with pytest.raises(GateFailed, match=r"CC-BY-NC-4.0 \(stated by the user\)"):
        plan_export(ExportRequest(checkpoint=anonymous, weights_licence="CC-BY-NC-4.0", **asked))


def test_the_users_word_does_not_overrule_the_file(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "nc.safetensors"
    from safetensors import safe_open

    with safe_open(checkpoint, framework="pt") as file:
        save_file(load_file(checkpoint), path, metadata=file.metadata() | {"licence": "CC-BY-NC-4.0"})
    with pytest.raises(UsageError, match=r"these weights are CC-BY-NC-4.0"):
        plan_export(ExportRequest(targets=("onnx",), checkpoint=path, commercial=True, weights_licence="Apache-2.0"))


def test_notice_names_weights_photographs_and_tools(onnx_export: Path) -> None:
    text = (onnx_export / "NOTICE").read_text()
    assert "weights: tiny, Apache-2.0" in text and "nothing above forbids it" in text
    assert "kodak_0001: unrestricted use" in text and "Eastman Kodak" in text
    assert "torch 2." in text and "onnx 1." in text
    links = read_manifest(onnx_export).facts["licences"]
    assert [(link["role"], link["commercial_use"]) for link in links] == [("weights", "allowed")]


def test_refusal_names_every_link_at_once() -> None:
    chain = [Link("weights", "base", "CC-BY-NC-4.0"), Link("teacher", "x", "Foo-1"), Link("data", "mine", "MIT")]
    assert len(blockers(chain)) == 2
    with pytest.raises(GateFailed, match=r"(?s)weights base.*teacher x: Foo-1 \(unknown\)"):
        refuse_unless_commercial(chain)
    refuse_unless_commercial(chain[2:])
    with pytest.raises(GateFailed, match="nothing is known"):
        refuse_unless_commercial([])
