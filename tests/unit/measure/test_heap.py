"""A process told to keep freed memory is not given the same pages anew for every large array."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, sys
import numpy as np
from datk.measure.heap import keep_freed_memory, give_freed_memory_back

if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(50_000_000, np.uint8)  # the first time they are new either way
before = faults()
for _ in range(5):
    np.ones(50_000_000, np.uint8)
rounds = faults() - before
give_freed_memory_back()
before = faults()
np.ones(50_000_000, np.uint8)
print(rounds // 5, faults() - before)
"""

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt(3) is glibc's")


def faults_per_array(mode: str) -> tuple[int, int]:
    """Page faults of one array of 50 MB: in a loop, and after freed memory was given back."""
    done = subprocess.run([sys.executable, "-c", ROUNDS, mode], capture_output=True, text=True, check=True)
    loop, after = done.stdout.split()
    return int(loop), int(after)


@needs_glibc
def test_freed_memory_is_used_again_only_when_told_so() -> None:
    assert faults_per_array("as it is")[0] > 100
    assert faults_per_array("keep")[0] < 10


@needs_glibc
def test_kept_memory_can_still_be_given_back() -> None:
    assert faults_per_array("keep")[1] > 100
