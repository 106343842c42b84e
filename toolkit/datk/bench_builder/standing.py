"""What becomes of a pair from people's answers: one author, then checkers who do not see each other's answers."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from datk.bench_builder.voting import Choice

SIDES = (Choice.FIRST, Choice.SECOND)


class Standing(StrEnum):
    """Where a pair is."""

    OPEN = "open"
    """Nobody has answered."""
    IN_CHECK = "in check"
    """Answered, more answers wanted."""
    ACCEPTED = "accepted"
    """Author and every checker named the same side: exported."""
    DISAGREED = "disagreed"
    SKIPPED = "skipped"
    """The author could not tell; the paper lets annotators skip any pair."""
    BAD = "bad"
    """Somebody said that the pair itself is no good."""


def standing(answers: Sequence[Choice], *, checkers: int) -> Standing:
    """answers: in the order given, undone ones left out; those beyond author and checkers do not count."""
    if Choice.BAD in answers:
        return Standing.BAD
    if not answers:
        return Standing.OPEN
    if answers[0] is Choice.UNSURE:
        return Standing.SKIPPED
    counted = answers[: checkers + 1]
    if len(counted) <= checkers:
        return Standing.IN_CHECK
    return Standing.ACCEPTED if set(counted) == {counted[0]} else Standing.DISAGREED
