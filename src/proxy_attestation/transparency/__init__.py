"""What watches a ledger from outside, with its public files only: verify, monitor, witness, and asking witnesses.

Nothing here is part of the proxy's trusted rooms, and nothing here imports them.
"""
