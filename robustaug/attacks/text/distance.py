"""How many slips of the fingers lie between two words."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1 << 16)
def damerau(a: str, b: str) -> int:
    """Return the fewest insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.

    A metric, unlike the optimal string alignment, which forbids another edit between two swapped characters. Damerau,
    CACM 1964; computed as by Lowrance & Wagner, "An extension of the string-to-string correction problem", JACM 1975.
    """
    far = len(a) + len(b)
    # one row and column of `far` ahead of the usual table, for a character that was not seen before
    cost = [[far] * (len(b) + 2) for _ in range(len(a) + 2)]
    cost[1][1:] = range(len(b) + 1)
    last_row: dict[str, int] = {}
    for i, left in enumerate(a, 1):
        cost[i + 1][1] = i
        last_match = 0
        for j, right in enumerate(b, 1):
            row, column = last_row.get(right, 0), last_match
            swapped = cost[row][column] + (i - row - 1) + 1 + (j - column - 1)
            if left == right:
                last_match = j
            changed = cost[i][j] + (left != right)
            cost[i + 1][j + 1] = min(changed, cost[i + 1][j] + 1, cost[i][j + 1] + 1, swapped)
        last_row[left] = i
    return cost[-1][-1]
