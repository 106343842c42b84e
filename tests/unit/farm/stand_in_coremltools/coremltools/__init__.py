"""A stand-in for coremltools on a Mac, as far as datk's scripts use it: answers with the export's own golden maps.

STAND_IN_FAULT: "ne" spoils the Neural Engine's answers, "load" refuses the package.
"""

import enum

from . import models

__all__ = ["ComputeUnit", "models"]
__version__ = "9.0"


class ComputeUnit(enum.Enum):
    ALL = 1
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    CPU_AND_NE = 4
