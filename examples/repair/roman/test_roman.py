import unittest

from roman import to_int


class Roman(unittest.TestCase):
    def test_numbers(self):
        for text, number in [("I", 1), ("IV", 4), ("III", 3), ("MCMXCIV", 1994), ("XX", 20)]:
            self.assertEqual(to_int(text), number, text)


if __name__ == "__main__":
    unittest.main()
