"""The converter's own progress bars, silenced: stderr belongs to the caller's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator


@contextlib.contextmanager
def progress_bars_off() -> Iterator[None]:
    """No bar of coremltools shows while the block runs."""
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.mil.passes import pass_pipeline
    from coremltools.optimize.coreml import _quantization_passes as compression

    places = ((ops, "_tqdm"), (pass_pipeline, "tqdm"), (compression, "tqdm"))
    bars = [(module, name, getattr(module, name)) for module, name in places]
    try:
        for module, name, bar in bars:
            setattr(module, name, functools.partial(bar, disable=True))
        yield
    finally:
        for module, name, bar in bars:
            setattr(module, name, bar)
