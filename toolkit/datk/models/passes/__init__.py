"""Rewrites of the net that compilers need; none changes its function. One idea a file; docs/passes.md lists them.

Every pass works in place on a copy that deployment_module owns and returns how many places it rewrote.
"""
