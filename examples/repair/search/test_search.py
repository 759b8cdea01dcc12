import unittest

from search import find


class Search(unittest.TestCase):
    def test_every_position(self):
        items = [2, 3, 5, 7, 11]
        for index, item in enumerate(items):
            self.assertEqual(find(items, item), index)

    def test_absent(self):
        self.assertEqual(find([1, 3], 2), -1)
        self.assertEqual(find([], 2), -1)


if __name__ == "__main__":
    unittest.main()
