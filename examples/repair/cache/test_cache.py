import unittest

from cache import Cache


class Caching(unittest.TestCase):
    def test_the_oldest_goes(self):
        cache = Cache(2)
        cache.put("a", 1)
        cache.put("b", 2)
        cache.get("a")
        cache.put("c", 3)
        self.assertIsNone(cache.get("b"))
        self.assertEqual((cache.get("a"), cache.get("c")), (1, 3))


if __name__ == "__main__":
    unittest.main()
