"""What a Jetson says of itself while an engine is timed: tegrastats' lines, and clocks locked and put back.

Needs NumPy; Python 3.8 or newer. Lies beside build_and_check.py, which uses it.
"""

# Runs on devices, unpackaged and with Python 3.8: checked by its own tests rather than by strict typing.
# mypy: disallow_untyped_defs=False, disallow_untyped_calls=False, check_untyped_defs=False

import contextlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

TEMPERATURE = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*)@(-?[0-9.]+)C\b")
POWER = re.compile(r"\b((?:VDD|VIN|POM)_[A-Z0-9_]+) ([0-9]+)(?:mW)?/([0-9]+)(?:mW)?")
MEMORY = re.compile(r"\bRAM ([0-9]+)/([0-9]+)MB")
GPU = re.compile(r"\bGR3D_FREQ ([0-9]+)%(?:@\[?([0-9]+))?")


def read_tegrastats(text):
    """What tegrastats' lines say: highest temperatures (C) and memory (MB), mean power (mW) and GPU load (%).

    A sensor that is switched off reports -256 C and is left out. Lines in which nothing is known are counted.
    """
    degrees, milliwatts, memory, load, clock, known = {}, {}, [], [], [], 0
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        before = sum(map(len, (degrees, milliwatts, memory, load)))
        for name, value in TEMPERATURE.findall(line):
            if float(value) > -200:
                degrees.setdefault(name.lower(), []).append(float(value))
        for name, now, _ in POWER.findall(line):
            milliwatts.setdefault(name, []).append(int(now))
        memory += [int(used) for used, _ in MEMORY.findall(line)]
        for percent, megahertz in GPU.findall(line):
            load.append(int(percent))
            clock += [int(megahertz)] if megahertz else []
        known += bool(MEMORY.search(line) or GPU.search(line) or sum(map(len, (degrees, milliwatts))) > before)
    return {
        "lines": len(lines),
        "not_understood": len(lines) - known,
        "max_temperature_c": {name: max(values) for name, values in sorted(degrees.items())},
        "mean_power_mw": {name: round(float(np.mean(values)), 1) for name, values in sorted(milliwatts.items())},
        "max_ram_mb": max(memory) if memory else None,
        "mean_gpu_percent": round(float(np.mean(load)), 1) if load else None,
        "gpu_mhz": [min(clock), max(clock)] if clock else None,
    }


@contextlib.contextmanager
def tegrastats():
    """Read tegrastats while the block runs; the yielded dict holds its figures afterwards, or why there are none."""
    found = {"not_measured": "tegrastats is not installed: not a Jetson"}
    tool = shutil.which("tegrastats")
    if tool is None:
        yield found
        return
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([tool, "--interval", "100"], stdout=log, stderr=subprocess.DEVNULL)
        try:
            yield found
        finally:
            process.terminate()
            process.wait()
            log.seek(0)
            found.clear()
            found.update(read_tegrastats(log.read()))


@contextlib.contextmanager
def locked_clocks(wanted):
    """Highest clocks while the block runs, restored however it ends; yields what was done, in words."""
    tool = shutil.which("jetson_clocks")
    if not wanted or tool is None:
        yield "not asked for" if not wanted else "jetson_clocks is not installed"
        return
    with tempfile.TemporaryDirectory() as folder:
        kept = str(Path(folder) / "clocks")
        if subprocess.run([tool, "--store", kept], stdout=subprocess.DEVNULL).returncode != 0:
            yield "not allowed: jetson_clocks --store failed (run as root)"
            return
        try:
            done = subprocess.run([tool], stdout=subprocess.DEVNULL).returncode == 0
            yield "locked at the highest" if done else "jetson_clocks failed"
        finally:
            subprocess.run([tool, "--restore", kept], stdout=subprocess.DEVNULL)
