import unittest

from graph import distance

EDGES = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["e"]}


class Graph(unittest.TestCase):
    def test_distances(self):
        self.assertEqual(distance(EDGES, "a", "a"), 0)
        self.assertEqual(distance(EDGES, "a", "d"), 2)
        self.assertEqual(distance(EDGES, "a", "e"), 3)

    def test_no_path(self):
        self.assertIsNone(distance(EDGES, "e", "a"))


if __name__ == "__main__":
    unittest.main()
