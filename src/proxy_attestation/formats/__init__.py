"""Bytes to frozen dataclasses and back. No key, clock, file, network or log in this room.

The invariant of every decoder here: any bytes give a value or a `FormatError`, in bounded time and memory, and never
another exception. Decoders are strict: one encoding per value, nothing after the end, nothing unknown.
"""
