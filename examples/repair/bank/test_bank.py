import unittest

from bank import Account, InsufficientFunds


class Bank(unittest.TestCase):
    def test_empty_the_account(self):
        account = Account(50)
        account.withdraw(50)
        self.assertEqual(account.balance, 0)

    def test_too_much(self):
        with self.assertRaises(InsufficientFunds):
            Account(50).withdraw(51)


if __name__ == "__main__":
    unittest.main()
