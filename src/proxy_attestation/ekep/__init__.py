"""EKEP, the mutually attested handshake of Asylo, as an optional front: an attested channel to the same four calls.

Off by default, and outside the trusted base: the channel protects nothing that the calls inside it rely on.
"""
