"""Shared by every test."""

from __future__ import annotations

from hypothesis import settings

# A busy or slow machine is no failed property, and the same commit must give the same verdict twice.
settings.register_profile("datk", deadline=None, derandomize=True)
settings.load_profile("datk")
