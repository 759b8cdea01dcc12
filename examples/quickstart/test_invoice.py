import unittest

from invoice import render, subtotal, vat

LINES = [("Pencil", 120, 10), ("Notebook", 450, 2)]


class Invoices(unittest.TestCase):
    def test_subtotal_counts_quantities(self):
        self.assertEqual(subtotal(LINES), 2100)

    def test_vat_is_rounded(self):
        self.assertEqual(vat(2103), 421)

    def test_render_ends_with_the_total(self):
        self.assertTrue(render(LINES).endswith("Total: 25.20"))


if __name__ == "__main__":
    unittest.main()
