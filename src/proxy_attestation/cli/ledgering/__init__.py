"""What the commands of `ledger` have in common."""
