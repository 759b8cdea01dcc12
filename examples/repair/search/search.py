"""Searching sorted lists."""


def find(items, wanted):
    """Position of `wanted` in the sorted list `items`, or -1."""
    low, high = 0, len(items) - 2
    while low <= high:
        middle = (low + high) // 2
        if items[middle] == wanted:
            return middle
        if items[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1
