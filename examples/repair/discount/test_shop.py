import unittest

from shop import discounted, total


class Shop(unittest.TestCase):
    def test_discount(self):
        self.assertEqual(discounted(200, 10), 180)
        self.assertEqual(discounted(200, 0), 200)

    def test_total(self):
        self.assertEqual(total([(100, 2), (50, 1)], 20), 200)

    def test_nonsense(self):
        with self.assertRaises(ValueError):
            discounted(1, 101)


if __name__ == "__main__":
    unittest.main()
