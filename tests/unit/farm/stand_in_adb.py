#!/usr/bin/env python3
"""A stand-in for adb, for tests: its "device" is this machine. It knows get-state, shell, push and exec-out."""

import os
import shutil
import subprocess
import sys

serial, verb, words = sys.argv[2], sys.argv[3], sys.argv[4:]
if serial != "standin-1":
    print(f"error: device '{serial}' not found", file=sys.stderr)
    sys.exit(1)
if verb == "get-state":
    print("device")
elif verb == "shell":
    subprocess.call(["sh", "-c", " ".join(words)])
    sys.exit(0)  # as old adb servers: the exit code is lost
elif verb == "push":
    shutil.copyfile(words[0], words[1])
elif verb == "exec-out":
    os.execvp("sh", ["sh", "-c", " ".join(words)])
else:
    sys.exit(f"stand-in adb: no {verb}")
