"""MLComputePlan of a program of four operations: one constant, one that stays on the CPU."""

from types import SimpleNamespace


class MLCPUComputeDevice:
    pass


class MLNeuralEngineComputeDevice:
    pass


class MLComputePlan:
    @staticmethod
    def load_from_path(path, compute_units):
        assert path == "compiled.mlmodelc"
        return MLComputePlan(compute_units.name)

    def __init__(self, unit):
        self.engine = unit in ("CPU_AND_NE", "ALL")
        names = ("const", "ios17.linear", "ios17.linear", "ios17.gather")
        block = SimpleNamespace(operations=[SimpleNamespace(operator_name=n) for n in names])
        functions = {"main": SimpleNamespace(block=block)}
        self.model_structure = SimpleNamespace(program=SimpleNamespace(functions=functions))

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        if operation.operator_name == "const":
            return None
        on_engine = self.engine and "linear" in operation.operator_name
        device = MLNeuralEngineComputeDevice() if on_engine else MLCPUComputeDevice()
        return SimpleNamespace(preferred_compute_device=device)

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        return None if operation.operator_name == "const" else SimpleNamespace(weight=0.25)
