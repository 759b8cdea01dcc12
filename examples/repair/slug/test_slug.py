import unittest

from slug import slug


class Slug(unittest.TestCase):
    def test_plain(self):
        self.assertEqual(slug("Hello World"), "hello-world")

    def test_punctuation_at_the_ends(self):
        self.assertEqual(slug("  Hello, World! "), "hello-world")


if __name__ == "__main__":
    unittest.main()
