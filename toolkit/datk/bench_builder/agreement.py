"""How far annotators agree beyond chance: Cohen's kappa for two, Fleiss' for several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Two raters' labels of the same items -> kappa in -1..1 (Cohen 1960).

    None without items, or when chance alone would agree always (both gave one and the same label throughout).
    """
    n = len(pairs)
    if n == 0:
        return None
    observed = sum(a == b for a, b in pairs) / n
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(one[label] * other[label] for label in one) / n**2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def fleiss_kappa(items: Sequence[Sequence[Hashable]]) -> float | None:
    """Labels of each item by equally many raters (two or more, not the same people throughout) -> kappa (Fleiss 1971).

    None without items or when every label is the same. Raises ValueError when items have different numbers of labels.
    """
    if not items:
        return None
    raters = len(items[0])
    if raters < 2 or any(len(item) != raters for item in items):
        raise ValueError("expected the same number of labels, two or more, for every item")
    counts = [Counter(item) for item in items]
    observed = sum((sum(c**2 for c in count.values()) - raters) / (raters * (raters - 1)) for count in counts)
    shares = Counter(label for item in items for label in item)
    total = len(items) * raters
    chance = sum((n / total) ** 2 for n in shares.values())
    return None if chance == 1 else (observed / len(items) - chance) / (1 - chance)
