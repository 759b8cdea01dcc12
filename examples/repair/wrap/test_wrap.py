import unittest

from wrap import wrap


class Wrap(unittest.TestCase):
    def test_fits_exactly(self):
        self.assertEqual(wrap("aaa bbb cc", 7), ["aaa bbb", "cc"])

    def test_long_word(self):
        self.assertEqual(wrap("a bbbbbbbbb c", 4), ["a", "bbbbbbbbb", "c"])

    def test_nothing(self):
        self.assertEqual(wrap("", 4), [])


if __name__ == "__main__":
    unittest.main()
