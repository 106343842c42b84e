"""Executes the operations of a saved package, one after the other, rounding where it says fp16."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datk.errors import TargetError
from datk.targets.coreml.reference import ops_elementwise, ops_linear, ops_quantize, ops_resize, ops_shape
from datk.targets.coreml.reference.program import Constant, Operation, Program, TensorType
from datk.targets.coreml.reference.registry import KERNELS, Kernel

OPERATION_FILES = (ops_elementwise, ops_linear, ops_quantize, ops_resize, ops_shape)
"""Imported for what they register."""

Environment = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One operation, ready to run: constants bound, the rest by name."""

    operation: Operation
    kernel: Kernel
    constants: dict[str, Any]
    names: dict[str, str]
    lists: dict[str, tuple[str, ...]]
    frees: tuple[str, ...] = ()
    """Values nobody reads after this step."""


class Evaluator:
    """A program with its weights decoded once.

    Raises TargetError at construction for an operation type, or an input of one, that is not known
    here: a package is judged whole or not at all.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._constants: Environment = {}
        steps = []
        for operation in program.operations:
            if operation.type == "const":
                assert operation.value is not None
                self._constants[operation.name] = python_value(operation.value)
                continue
            step = self._step(operation)
            if operation.type.startswith("constexpr_"):
                _run(step, self._constants)
            else:
                steps.append(step)
        self._steps = _with_frees(steps, set(program.outputs), set(self._constants))

    @torch.inference_mode()
    def run(self, image: Tensor, *, keep: frozenset[str] = frozenset()) -> dict[str, Tensor]:
        """image: (1, 3, h, w) float32, 0..255 in the program's colour order. Output name -> tensor.

        keep: further values to return, by name. Raises TargetError when the shape is not the program's.
        """
        expected = self.program.input_type.shape
        if tuple(image.shape) != expected:
            raise TargetError(f"{self.program.path}: input of shape {tuple(image.shape)}, expected {expected}")
        values = self._constants | {self.program.image.name: image}
        for step in self._steps:
            _run(step, values)
            for name in step.frees:
                if name not in keep:
                    del values[name]
        return {name: values[name] for name in (*self.program.outputs, *keep)}

    def _step(self, operation: Operation) -> Step:
        where = f"operation '{operation.type}' (output '{operation.name}')"
        if operation.type not in KERNELS:
            raise TargetError(
                f"{self.program.path}: {where} is unknown to this evaluator, so the package cannot be judged here",
                hint="judge it on macOS with Core ML, or add the operation to targets/coreml/reference",
            )
        kernel = KERNELS[operation.type]
        constants: dict[str, Any] = {}
        names: dict[str, str] = {}
        lists: dict[str, tuple[str, ...]] = {}
        for key, arguments in operation.inputs.items():
            if key in operation.bound:
                constants[key] = python_value(arguments[0])  # type: ignore[arg-type]
            elif len(arguments) > 1 or key == "values":
                lists[key] = arguments  # type: ignore[assignment]
            elif arguments[0] in self._constants:
                constants[key] = self._constants[str(arguments[0])]
            else:
                names[key] = str(arguments[0])
        try:
            inspect.signature(kernel.function).bind(**dict.fromkeys([*constants, *names, *lists]))
        except TypeError as error:
            raise TargetError(
                f"{self.program.path}: {where}: {error}, so the package cannot be judged here",
                hint="judge it on macOS with Core ML, or extend targets/coreml/reference",
            ) from error
        return Step(operation, kernel, constants, names, lists)


def python_value(value: Constant) -> Any:
    """A constant as the kernels take it.

    Text as it is; integers and flags of rank 0 and 1 as Python values or tuples of them (axes, sizes);
    8-bit integers and everything else as tensors, floats in float32 (exact for fp16).
    """
    if isinstance(value, str | tuple):
        return value
    if value.dtype == np.bool_ or (value.dtype.kind in "iu" and value.dtype.itemsize > 1 and value.ndim <= 1):
        plain = value.tolist()
        return tuple(plain) if isinstance(plain, list) else plain
    return torch.from_numpy(value.astype(np.float32) if value.dtype.kind == "f" else value.copy())


def _run(step: Step, values: Environment) -> None:
    """Compute one step and put its results into values."""
    operation = step.operation
    inputs = dict(step.constants)
    for key, name in step.names.items():
        inputs[key] = values[name]
    for key, several in step.lists.items():
        inputs[key] = tuple(values[name] for name in several)
    results = step.kernel.function(**inputs)
    several_results = results if isinstance(results, tuple) else (results,)
    for (name, declared), result in zip(operation.outputs.items(), several_results, strict=True):
        values[name] = _settled(operation, declared, result, moves_only=step.kernel.moves_only)


def _settled(operation: Operation, declared: TensorType, result: Tensor, *, moves_only: bool) -> Tensor:
    """result, checked against its declared shape and rounded to its declared type."""
    if tuple(result.shape) != declared.shape:
        raise TargetError(
            f"operation '{operation.type}' (output '{operation.name}') gives shape {tuple(result.shape)}, "
            f"the package declares {declared.shape}"
        )
    if declared.dtype == "float16" and not moves_only:
        return result.half().float()
    return result


def _with_frees(steps: list[Step], outputs: set[str], constants: set[str]) -> list[Step]:
    """The steps, each knowing which values are read for the last time there."""
    kept = outputs | constants
    planned: list[Step] = []
    for step in reversed(steps):
        touched = {*step.names.values(), *(n for names in step.lists.values() for n in names), *step.operation.outputs}
        planned.append(Step(**{**vars(step), "frees": tuple(sorted(touched - kept))}))
        kept |= touched
    return planned[::-1]
