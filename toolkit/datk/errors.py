"""The errors a user can cause. Each carries what happened, what to do next and the exit code.

Exit codes of the CLI: 0 fine, 1 our bug (traceback), 2 usage or recipe, 3 gate failed,
4 the environment lacks something.
"""

from __future__ import annotations


class DatkError(Exception):
    """A user's mistake or a missing thing, told in one sentence and a hint; never a traceback."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DatkError):
    """Arguments that cannot work together or name something that does not exist."""


class RecipeError(DatkError):
    """A recipe that does not say what a recipe must; lists every problem at once."""


class CheckpointError(DatkError):
    """Weights that are wrong, truncated, ambiguous or unsafe to load."""


class DataError(DatkError):
    """Images, depth maps or annotations that cannot be read as what they claim to be."""


class TargetError(DatkError):
    """A target's compiler or runtime refused the net; its own words are passed on."""


class GateFailed(DatkError):
    """An artifact was measured and did not pass its gates; it is kept and marked rejected."""

    exit_code = 3


class EnvironmentLacks(DatkError):
    """A package, device, data set or resource is not on this machine."""

    exit_code = 4
