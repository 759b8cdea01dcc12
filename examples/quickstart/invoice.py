"""Invoices: lines of (description, price in cents, quantity)."""

VAT_PERCENT = 20


def subtotal(lines):
    """The sum of all lines in cents, before tax."""
    total = 0
    for _description, price, quantity in lines:
        total += price
    return total


def vat(cents):
    """The tax on an amount, rounded half up to whole cents."""
    return (cents * VAT_PERCENT + 50) // 100


def render(lines):
    """The invoice as text."""
    rows = [f"{description}: {quantity} x {price / 100:.2f}" for description, price, quantity in lines]
    net = subtotal(lines)
    rows.append(f"Total: {(net + vat(net)) / 100:.2f}")
    return "\n".join(rows)
