"""Look inside a saved IR: the wanted tensors become outputs of a copy that OpenVINO runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract
from datk.depth.runner import ImageU8, check_bucket_image
from datk.errors import TargetError
from datk.targets.openvino.ir import first_line, load
from datk.targets.openvino.runner import IN_FLOAT, compile_on_cpu
from datk.targets.trace import TracedTensor, depends_on

_FLOATS = ("f32", "f16")


def open_trace(artifact: Path, contract: Contract) -> OpenVinoTrace:
    """A Trace of a saved IR. Raises DataError when it is missing, TargetError when it cannot be read."""
    return OpenVinoTrace(artifact, contract)


class OpenVinoTrace:
    """Quantised layers are computed in float, as the judge does. A tensor has its operator's name."""

    label = "openvino-cpu"

    def __init__(self, artifact: Path, contract: Contract) -> None:
        self.input_name = contract.input.name
        self.output_name = contract.output.name
        self._artifact = artifact
        self._size = contract.input_size
        self._model = load(artifact)
        self._last = self._model.outputs[0].get_node().input_value(0)
        made = [
            TracedTensor(
                name=self._name(output),
                shape=tuple(int(side) for side in output.get_shape()),
                made_by=node.get_type_name(),
                reads=tuple(self._name(node.input_value(i)) for i in range(node.get_input_size())),
            )
            for node in self._model.get_ordered_ops()
            if node.get_type_name() not in ("Parameter", "Constant", "Result")
            for output in node.outputs()
        ]
        self.tensors = depends_on(made, self.input_name)

    def run(self, image: ImageU8, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """As Trace.run; a tensor that holds no floats is left out."""
        check_bucket_image(image, self._size)
        model = self._model.clone()
        known = {
            self._name(output): output
            for node in model.get_ordered_ops()
            for output in node.outputs()
            if output.get_element_type().get_type_name() in _FLOATS
        }
        wanted = [name for name in dict.fromkeys(names) if name in known]
        extra = [name for name in wanted if name != self.output_name]
        model.add_outputs([known[name] for name in extra])
        request = compile_on_cpu(model, IN_FLOAT, name=str(self._artifact)).create_infer_request()
        try:
            found = request.infer([np.ascontiguousarray(image)[None]])
        except RuntimeError as error:
            raise TargetError(f"{self._artifact}: OpenVINO cannot run it: {first_line(error)}") from error
        order = [self.output_name, *extra]
        return {name: np.array(found[order.index(name)], dtype=np.float32) for name in wanted}

    def close(self) -> None:
        """Nothing is held between runs."""

    def _name(self, output: Any) -> str:
        node = output.get_node()
        if node.get_friendly_name() == self._last.get_node().get_friendly_name():
            return self.output_name
        several = node.get_output_size() > 1
        return f"{node.get_friendly_name()}:{output.get_index()}" if several else str(node.get_friendly_name())
