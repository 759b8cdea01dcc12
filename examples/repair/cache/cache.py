"""A cache with a limit."""

from collections import OrderedDict


class Cache:
    """Keeps the `limit` entries that were used last."""

    def __init__(self, limit):
        self.limit = limit
        self.entries = OrderedDict()

    def get(self, key, default=None):
        if key not in self.entries:
            return default
        self.entries.move_to_end(key)
        return self.entries[key]

    def put(self, key, value):
        self.entries[key] = value
        self.entries.move_to_end(key)
        if len(self.entries) > self.limit:
            self.entries.popitem(last=True)
