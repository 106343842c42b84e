"""What the tensors at an artifact's edges mean. Written to contract.json beside every artifact."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Size = tuple[int, int]
"""(height, width) in pixels, everywhere."""

PATCH = 14
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DepthKind(StrEnum):
    """The physical quantity of a depth map and, with it, its sign."""

    DISPARITY_AFFINE_INVARIANT = "disparity_affine_invariant"
    """Inverse depth up to an unknown scale and shift, >= 0. Larger is nearer."""
    DEPTH_METRIC_M = "depth_metric_m"
    """Depth along the optical axis in metres. Larger is farther."""
    DEPTH_AFFINE_INVARIANT = "depth_affine_invariant"
    """Depth up to an unknown scale and shift. Larger is farther. Some teachers give it; nothing is judged in it."""

    @property
    def larger_is(self) -> Literal["nearer", "farther"]:
        return "nearer" if self is DepthKind.DISPARITY_AFFINE_INVARIANT else "farther"


class TensorSpec(BaseModel):
    """One tensor at an artifact's edge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[int, ...]
    dtype: Literal["uint8", "int8", "float16", "float32"]
    layout: Literal["NHWC", "NCHW", "HWC", "NHW", "image"]
    colour_order: Literal["RGB", "BGR"] | None = None
    value_range: tuple[float, float] | None = None
    """Inclusive range of values; None when it depends on the weights."""
    scale: float | None = None
    """Of an int8 output: a value is scale * (stored - zero_point). None: the tensor holds the values themselves."""
    zero_point: int | None = None


class Bucket(BaseModel):
    """One input size of an export, and where its artifact lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_size: Size
    """(height, width), multiples of 14."""
    folder: str
    """Export folder of that size, relative to the folder this contract lies in; "." for its own."""
    entry: str = ""
    """What to call in an artifact that takes several sizes: a LiteRT signature, a Core ML function. Empty: one size."""


def entry_of(size: Size) -> str:
    """Name of the entry point for a size in an artifact that takes several."""
    return f"depth_{size[0]}x{size[1]}"


class Contract(BaseModel):
    """All an app must know to feed an artifact and read its answer. Serialised as contract.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    input: TensorSpec
    output: TensorSpec
    depth_kind: DepthKind
    larger_is: Literal["nearer", "farther"]
    max_depth_m: float | None = None
    """Upper end of a metric output in metres; None for relative disparity."""
    input_size: Size
    """(height, width) of the bucket; both multiples of 14."""
    resize_to_input: str = (
        "plain resize of the 8-bit RGB image to (height, width): cv2.INTER_CUBIC, "
        "rounded and clipped to 0..255; aspect ratio not kept, no letterbox"
    )
    resize_output: str = "bilinear, align_corners=True, to the original (height, width)"
    normalisation: str = Field(
        default="inside the artifact: (rgb/255 - mean)/std with ImageNet mean and std; do not normalise in the app"
    )
    precision: str
    """fp32, fp16, int8, ...: the artifact's precision name."""
    arithmetic: str = ""
    """What the artifact computes in, in words; empty in files of datk 0.1."""
    artifact: str | None = None
    """File or package this contract lies beside; None inside the artifact's own metadata."""
    buckets: tuple[Bucket, ...] = ()
    """Every size of this export, this one included; empty where there is no other."""
    bucket_rule: str = (
        "of several sizes the one nearest in log(height/width) to the photograph, of equals the larger; "
        "then the plain resize; warn beyond 10 % stretch; no letterbox"
    )

    @property
    def edges(self) -> Contract:
        """Without what only the export folder knows: the part that an artifact carries inside itself."""
        return self.model_copy(update={"artifact": None, "buckets": ()})

    @property
    def entry(self) -> str:
        """What to call in the artifact for input_size, where it takes several sizes; else empty."""
        return next((b.entry for b in self.buckets if b.input_size == self.input_size), "")

    @property
    def packed_sizes(self) -> tuple[Size, ...]:
        """Every size that this one artifact takes, where it takes several; else empty."""
        return tuple(b.input_size for b in self.buckets if b.entry)

    def at(self, size: Size) -> Contract:
        """This contract as it reads for one of its packed_sizes. Raises ValueError for another size."""
        if size not in self.packed_sizes:
            raise ValueError(f"{size} is none of {self.packed_sizes}")
        specs = {
            "input": self.input.model_copy(update={"shape": _resized(self.input.shape, self.input_size, size)}),
            "output": self.output.model_copy(update={"shape": _resized(self.output.shape, self.input_size, size)}),
        }
        return self.model_copy(update={"input_size": size, **specs})

    @property
    def signature(self) -> str:
        """One line for logs: what goes in, what comes out, which way the sign points."""
        h, w = self.input_size
        return f"{h}x{w} {self.input.dtype} {self.input.colour_order} -> {self.depth_kind} (larger is {self.larger_is})"


def _resized(shape: tuple[int, ...], old: Size, new: Size) -> tuple[int, ...]:
    """shape with its height and width, which stand side by side, replaced."""
    at = next(i for i in range(len(shape) - 1) if shape[i : i + 2] == old)
    return (*shape[:at], *new, *shape[at + 2 :])


ARITHMETIC = {
    "fp32": "float32",
    "fp16": "float16 behind the normalisation, float32 at input and output",
    "int8": "int8 products in the layers the scheme selects, the rest in floating point",
    "int8-dynamic": "int8 products with ranges found at run time, the rest in floating point",
    "int8-weights": "floating point, weights stored as int8",
    "int4-weights": "floating point, weights stored as int4",
    "lut8": "floating point, weights stored as 8-bit indices into tables",
    "lut6": "floating point, weights stored as 6-bit indices into tables",
    "lut4": "floating point, weights stored as 4-bit indices into tables",
}
"""What a precision means where a target does not say otherwise."""


def contract_for(
    *,
    input_size: Size,
    depth_kind: DepthKind,
    precision: str,
    max_depth_m: float | None = None,
    layout: Literal["NHWC", "image"] = "NHWC",
    input_name: str = "image",
    output_name: str = "depth",
    output_shape: tuple[int, ...] | None = None,
    output_layout: Literal["NHWC", "NCHW", "NHW"] = "NHW",
    output_dtype: Literal["float16", "float32"] = "float32",
    arithmetic: str | None = None,
) -> Contract:
    """The contract every built-in target shares: 8-bit RGB in, a depth map of the same size out.

    arithmetic: in words, where it is not what the precision's name promises.
    """
    h, w = input_size
    return Contract(
        input=TensorSpec(
            name=input_name, shape=(1, h, w, 3), dtype="uint8", layout=layout, colour_order="RGB", value_range=(0, 255)
        ),
        output=TensorSpec(
            name=output_name,
            shape=output_shape or (1, h, w),
            dtype=output_dtype,
            layout=output_layout,
            value_range=(0, max_depth_m) if max_depth_m else None,
        ),
        depth_kind=depth_kind,
        larger_is=depth_kind.larger_is,
        max_depth_m=max_depth_m,
        input_size=input_size,
        precision=precision,
        arithmetic=arithmetic or ARITHMETIC.get(precision, precision),
    )
