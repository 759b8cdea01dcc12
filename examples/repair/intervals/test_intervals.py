import unittest

from intervals import length, merge


class Intervals(unittest.TestCase):
    def test_overlap(self):
        self.assertEqual(merge([(5, 8), (1, 3), (2, 6)]), [(1, 8)])

    def test_one_inside_another(self):
        self.assertEqual(merge([(1, 10), (2, 3)]), [(1, 10)])

    def test_length(self):
        self.assertEqual(length([(1, 10), (2, 3), (20, 21)]), 10)


if __name__ == "__main__":
    unittest.main()
