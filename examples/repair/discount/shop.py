"""Prices in a shop."""


def discounted(price, percent):
    """A price in cents less `percent` per cent."""
    if not 0 <= percent <= 100:
        raise ValueError("percent must be between 0 and 100")
    return price - price * percent


def total(items, percent=0):
    """The price of (price, count) pairs, less a discount, rounded to whole cents."""
    full = sum(price * count for price, count in items)
    return round(discounted(full, percent))
