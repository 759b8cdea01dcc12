import unittest

from clock import later


class Clock(unittest.TestCase):
    def test_same_day(self):
        self.assertEqual(later("09:30", 45), "10:15")

    def test_past_midnight(self):
        self.assertEqual(later("23:30", 45), "00:15")


if __name__ == "__main__":
    unittest.main()
