"""Random numbers that are a function of (seed, step, process): nothing about them has to be saved."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_step(seed: int, step: int, rank: int) -> None:
    """Set torch's, NumPy's and Python's global generators for a step.

    So a loss that draws from any of them draws the same after a restart. What belongs to one image should rather be
    drawn from `numpy.random.default_rng([seed, purpose, position])`: that holds for any number of processes as well.
    """
    words = np.random.SeedSequence([seed, 2, step, rank]).generate_state(2, np.uint32)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(int(words[0]))
    random.seed(int(words[1]))
