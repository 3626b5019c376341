"""The compiled pass over logits: each is read once, and nothing as large as them is made."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def fill(logits, labels, group, edges, table, out):
    """Add rows of logits (N, K) to `table` (G, K, M, 5), and put each sample's outcomes into `out` (N, 4).

    Args:
        labels, group: (N,) int64.
        edges: (M+1,) float64, of the bins.
    """
    n, classes = logits.shape
    bins = len(edges) - 1
    p = np.empty(classes)
    for i in range(n):
        best = 0
        for k in range(1, classes):
            if logits[i, k] > logits[i, best]:
                best = k
        top = np.float64(logits[i, best])
        total = 0.0
        for k in range(classes):
            p[k] = np.exp(np.float64(logits[i, k]) - top)
            total += p[k]
        if not total < np.inf:  # NaN or +inf among them, or nothing but -inf
            out[i] = np.nan
            out[i, 1] = 0.0
            continue
        label, g, error = labels[i], group[i], 0.0
        for k in range(classes):
            share = p[k] / total
            y = 1.0 if k == label else 0.0
            error += (share - y) * (share - y)
            at = min(int(share * bins), bins - 1)
            # the product may be rounded over an edge: the edges themselves decide
            while at > 0 and share <= edges[at]:
                at -= 1
            while at < bins - 1 and share > edges[at + 1]:
                at += 1
            cell = table[g, k, at]
            cell[0] += 1.0
            cell[1] += share
            cell[2] += share * share
            if k == label:
                cell[3] += 1.0
                cell[4] += share
        out[i, 0] = 1.0 / total
        out[i, 1] = 1.0 if best == label else 0.0
        out[i, 2] = np.log(total) + top - np.float64(logits[i, label])
        out[i, 3] = error
