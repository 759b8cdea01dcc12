"""Splitting lists into pages."""


def page_count(total, size):
    """How many pages `total` items need."""
    if size <= 0:
        raise ValueError("size must be positive")
    return total // size


def page(items, number, size):
    """The items of page `number`, counted from 1."""
    if number < 1 or number > page_count(len(items), size):
        raise IndexError("no such page")
    start = (number - 1) * size
    return items[start:start + size]
