"""How long answers take: the buckets in which they are counted, and what the counts tell.

The bounds are 1, 2 and 5 of each decade, from half a millisecond, which only the fastest pages beat, to a minute,
beyond which a request has met a timeout. Growing by a factor, they are as exact for a page of 2 ms as for one of
2 s; being round, they are the figures that objectives are set in ("99 % within 0.2 s"), so such a share is counted
and not estimated. Chosen once: a histogram whose bounds change cannot be compared with itself.
"""

from __future__ import annotations

from collections.abc import Sequence

BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)  # seconds
BUCKETS = len(BOUNDS) + 1  # the last is of those above all bounds


def quantile(share: float, counts: Sequence[int]) -> float | None:
    """Return the seconds within which this share was answered; None if nothing was.

    ``counts`` are those of each bucket alone. Within a bucket they are taken to be spread evenly, and what is above
    all bounds counts as the last of them: as Prometheus' ``histogram_quantile`` has it, so that a table and a
    dashboard agree.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, below, low = share * total, 0, 0.0
    for bound, count in zip(BOUNDS, counts, strict=False):
        if count and below + count >= wanted:
            return low + (bound - low) * (wanted - below) / count
        below, low = below + count, bound
    return BOUNDS[-1]
