"""This Python takes itself for one on macOS, for scripts that ask."""

import sys

sys.platform = "darwin"
