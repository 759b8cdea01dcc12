import unittest

from line import split


class Split(unittest.TestCase):
    def test_plain(self):
        self.assertEqual(split("a,b,,c"), ["a", "b", "", "c"])

    def test_quoted(self):
        self.assertEqual(split('"a,b",c'), ["a,b", "c"])

    def test_doubled_quotes(self):
        self.assertEqual(split('"say ""hi""",x'), ['say "hi"', "x"])


if __name__ == "__main__":
    unittest.main()
