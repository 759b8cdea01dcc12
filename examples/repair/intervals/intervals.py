"""Intervals of numbers."""


def merge(intervals):
    """Overlapping intervals joined, in order."""
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            last = merged[-1]
            merged[-1] = (last[0], end)
        else:
            merged.append((start, end))
    return merged


def length(intervals):
    return sum(end - start for start, end in merge(intervals))
