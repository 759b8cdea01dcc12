"""Addresses from titles."""

import re


def words_of(title):
    """The words of a title in lower case; empty where two separators meet."""
    return re.split(r"[^a-z0-9]+", title.lower())


def slug(title):
    """A title as it appears in an address: words joined by single hyphens."""
    words = words_of(title)
    return "-".join(words)
