"""Judges again what was issued: the evidence behind each live certificate, under today's collateral and a policy.

Outside of the trusted rooms: nothing here holds a key, and nothing that is found here issues or revokes anything. The
ledger is read through connections that cannot write.
"""
