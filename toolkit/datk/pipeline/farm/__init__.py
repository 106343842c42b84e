"""Artifacts of a run on devices: jobs, host scoring, verdict stages."""
