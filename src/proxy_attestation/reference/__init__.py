"""Reference values that people keep: measured out of what is released, signed, imported from CoRIM.

Outside the trusted rooms. What the authority believes of this is read again there: `policy.reference` verifies
signatures and takes the values in.
"""
