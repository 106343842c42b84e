"""Several packages of one net as one multi-function package (iOS 18, macOS 15): a function for each input size.

coremltools' own tool does it and stores equal weights once. The one-size packages stay as they are: they run on iOS 17.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from datk.errors import TargetError
from datk.targets.base import PackRequest
from datk.targets.chatter import sdk_chatter_off
from datk.targets.coreml.bars import progress_bars_off
from datk.targets.coreml.reference.program import FUNCTION, package_files, read_specification
from datk.targets.coreml.seal import write_multifunction

ARTIFACT = "model.mlpackage"
REFUSALS = (ValueError, RuntimeError, AssertionError, KeyError, TypeError, NotImplementedError)
"""What coremltools raises here; it has no exception class of its own."""


def pack(request: PackRequest) -> Path:
    """Write request.out/model.mlpackage; its first part is the default function. Raises TargetError."""
    with sdk_chatter_off():
        from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction
    path = request.out / ARTIFACT
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / ARTIFACT
        with sdk_chatter_off(), progress_bars_off():
            try:
                wanted = MultiFunctionDescriptor()
                for entry, part in request.parts.items():
                    wanted.add_function(str(part), src_function_name=FUNCTION, target_function_name=entry)
                wanted.default_function_name = next(iter(request.parts))
                save_multifunction(wanted, str(made))
            except REFUSALS as error:
                raise TargetError(f"coremltools refused to pack: {type(error).__name__}: {error}") from error
        root = package_files(made)["root"]
        write_multifunction(
            read_specification(root),
            root.parent / "weights" / "weight.bin",
            path,
            contract=request.contract,
            metadata=dict(request.metadata),
        )
    return path
