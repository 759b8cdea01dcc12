import unittest

from pages import page, page_count


class Pages(unittest.TestCase):
    def test_count(self):
        self.assertEqual(page_count(10, 5), 2)
        self.assertEqual(page_count(11, 5), 3)
        self.assertEqual(page_count(0, 5), 0)

    def test_last_page_is_short(self):
        self.assertEqual(page([1, 2, 3], 2, 2), [3])


if __name__ == "__main__":
    unittest.main()
