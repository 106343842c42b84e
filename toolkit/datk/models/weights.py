"""Loading whatever Depth Anything V2 weights a user has, strictly and safely, and saving our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from datk.depth.io_spec import DepthKind
from datk.errors import CheckpointError
from datk.models.backbones import Backbone, EncoderSpec
from datk.models.checkpoint_file import WeightsFile, read_weights, write_safetensors
from datk.models.checkpoint_keys import ENCODER, ENCODER_ONLY, SourceFormat, official_names, recognise
from datk.models.checkpoint_kind import resolve_kind
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import DinoV2
from datk.models.presets import PRESETS, Preset
from datk.models.presets import preset as preset_named

SHOWN_PROBLEMS = 8
DINOV2_LICENCE = "Apache-2.0"
_RESERVED = ("preset", "depth_kind", "max_depth_m", "format", "encoder")


@dataclass(frozen=True)
class Checkpoint:
    """A net and all that is known about where its weights came from."""

    net: DepthAnything
    """float32, eval mode, on the CPU."""
    preset: Preset
    depth_kind: DepthKind
    max_depth_m: float | None
    source_format: str
    """official, huggingface, distill-any-depth or datk; "+wrapper" added for training-script files."""
    sha256: str
    """Of the file as it lies on disk."""
    licence: str
    """SPDX name: what the file's own metadata says, else that of the published weights of this size."""
    metadata: dict[str, str]
    """safetensors metadata of the file; empty for .pth."""


def load_checkpoint(
    path: Path | str, *, depth_kind: DepthKind | None = None, max_depth_m: float | None = None
) -> Checkpoint:
    """Load a whole net. Size and wrapper are recognised by content, relative or metric as resolve_kind says.

    Takes official relative and metric .pth files, training-script files, Hugging Face safetensors with the
    config.json beside them, Distill-Any-Depth's and datk's own. float16, bfloat16 and float64 become
    float32. Nothing in the file is run. Raises CheckpointError listing the first problems.
    """
    path = Path(path)
    file = read_weights(path)
    source = _recognised(path, file)
    if source in ENCODER_ONLY:
        raise CheckpointError(
            f"{path}: a DINOv2 encoder without a depth head, for training only",
            hint="name it as the student's feature_source or encoder; to export, take a depth_anything_v2_*.pth",
        )
    state = official_names(file.tensors, source)
    spec = _encoder_spec(path, file)
    preset = _preset_of(path, state) if spec is None else preset_named(file.metadata.get("preset", ""))
    kind, maximum = resolve_kind(path, file, source, preset, depth_kind, max_depth_m)
    if spec is None:
        with torch.device("meta"):
            net = DepthAnything(preset, depth_kind=kind, max_depth_m=maximum)
    else:  # on the CPU: transformers keeps constants such as position indices outside the state
        net = DepthAnything(preset, depth_kind=kind, max_depth_m=maximum, encoder=Backbone(spec))
    _fill(path, net, state, f"Depth Anything V2 {preset.name}" + (f" on {spec.family}" if spec else ""))
    return Checkpoint(
        net=net,
        preset=net.preset,
        depth_kind=kind,
        max_depth_m=maximum,
        source_format=("datk" if "depth_kind" in file.metadata else source) + ("+wrapper" if file.wrapper else ""),
        sha256=file.sha256,
        licence=file.metadata.get("licence", preset.licence),
        metadata=file.metadata,
    )


def load_encoder(path: Path | str, preset: Preset | str) -> DinoV2:
    """The encoder of that size from a DINOv2 file (Meta's or Hugging Face's) or from any whole checkpoint.

    Returns it in float32 and eval mode on the CPU. Raises CheckpointError for another size, for register variants,
    and for whatever load_checkpoint refuses.
    """
    path = Path(path)
    wanted = preset_named(preset) if isinstance(preset, str) else preset
    file = read_weights(path)
    state = official_names(file.tensors, _recognised(path, file))
    if any("register_tokens" in name for name in state):
        raise CheckpointError(f"{path}: a DINOv2 with registers", hint="Depth Anything V2 uses the one without")
    found = _preset_of(path, state)
    if found.backbone != "dinov2":
        raise CheckpointError(f"{path}: holds a {found.name} encoder, expected DINOv2's", hint="name a DINOv2 file")
    if found.name != wanted.name:
        raise CheckpointError(f"{path}: holds a {found.name} encoder, expected {wanted.name}")
    encoder_state = {k.removeprefix(ENCODER): v for k, v in state.items() if k.startswith(ENCODER)}
    with torch.device("meta"):
        encoder = DinoV2(wanted)
    _fill(path, encoder, encoder_state, f"DINOv2 {wanted.name} encoder")
    return encoder


def licence_of_file(path: Path | str) -> str:
    """SPDX name: what the file's own metadata says; else DINOv2's, or that of the published weights of its size.

    Raises CheckpointError for whatever load_checkpoint and load_encoder refuse to recognise.
    """
    path = Path(path)
    file = read_weights(path)
    source = _recognised(path, file)
    if source in ENCODER_ONLY:
        return DINOV2_LICENCE
    return file.metadata.get("licence") or _preset_of(path, official_names(file.tensors, source)).licence


def save_checkpoint(net: DepthAnything, path: Path | str, *, metadata: dict[str, str]) -> None:
    """Write net as safetensors with official names; size, kind and maximum depth go into its metadata.

    metadata: strings to add, such as licence; must not name what is derived from net. Written under a temporary
    name, synchronised and renamed. Two equal nets with equal metadata give equal bytes.
    """
    path = Path(path)
    assert not set(metadata) & set(_RESERVED), f"reserved metadata: {set(metadata) & set(_RESERVED)}"
    own = {"format": "pt", "preset": net.preset.name, "depth_kind": str(net.depth_kind.value)}
    own |= {} if net.max_depth_m is None else {"max_depth_m": f"{net.max_depth_m:g}"}
    own |= {} if net.encoder_spec is None else {"encoder": net.encoder_spec.to_json()}
    state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in net.state_dict().items()}
    write_safetensors(path, state, own | metadata)


def _encoder_spec(path: Path, file: WeightsFile) -> EncoderSpec | None:
    """The encoder of another family that datk's own metadata names."""
    if "encoder" not in file.metadata:
        return None
    try:
        return EncoderSpec.from_json(file.metadata["encoder"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its metadata names no encoder known here ({error})") from error


def _recognised(path: Path, file: WeightsFile) -> SourceFormat:
    source = recognise(set(file.tensors))
    if source is None:
        first = ", ".join(sorted(file.tensors)[:4])
        raise CheckpointError(
            f"{path}: no Depth Anything V2 weights; its tensors are named {first}, ...",
            hint="expected pretrained.* and depth_head.*, or Hugging Face's backbone.*, neck.*, head.*",
        )
    return source


def _preset_of(path: Path, state: dict[str, Tensor]) -> Preset:
    """By width and number of blocks; a convolutional encoder by the stem that only it has."""
    if f"{ENCODER}conv_stem.first_conv.convolution.weight" in state:
        return preset_named("mobile")
    token = state.get(f"{ENCODER}cls_token")
    dim = token.shape[-1] if token is not None and token.ndim else 0
    blocks = {name.split(".")[2] for name in state if name.startswith(f"{ENCODER}blocks.")}
    for preset in PRESETS.values():
        if (preset.dim, preset.depth) == (dim, len(blocks)):
            return preset
    known = ", ".join(f"{p.name} {p.dim}/{p.depth}" for p in PRESETS.values())
    raise CheckpointError(f"{path}: an encoder of width {dim} with {len(blocks)} blocks", hint=f"known: {known}")


def _fill(path: Path, net: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Put state into net, which stands on the meta device. Names and shapes first: they cost no memory."""
    expected = net.state_dict()
    problems = [f"missing: {name}" for name in expected if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in expected]
    for name in [n for n in expected if n in state]:
        found = state[name]
        if found.shape != expected[name].shape:
            problems.append(f"shape: {name} is {tuple(found.shape)}, expected {tuple(expected[name].shape)}")
        elif not found.is_floating_point():
            problems.append(f"type: {name} is {str(found.dtype).removeprefix('torch.')}, expected floating point")
    _raise_on(path, problems, what)
    ready = {name: state.pop(name).detach().to(torch.float32, copy=True).contiguous() for name in expected}
    bad = {name: int((~torch.isfinite(tensor)).sum()) for name, tensor in ready.items()}
    _raise_on(path, [f"not finite: {name} holds {n} NaN or infinite values" for name, n in bad.items() if n], what)
    net.load_state_dict(ready, strict=True, assign=True)
    net.eval()


def _raise_on(path: Path, problems: list[str], what: str) -> None:
    if not problems:
        return
    shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN_PROBLEMS])
    rest = f"\n  and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise CheckpointError(
        f"{path}: not a {what} checkpoint, {count}{shown}{rest}", hint="fetch it again, or name another file"
    )
