"""An evaluator of saved Core ML packages for machines without Core ML, independent of the converter.

It reads the package from disk (manifest, model specification, weight file) and executes its MIL
operations in torch. It judges numbers, never speed or a compute unit.
"""
