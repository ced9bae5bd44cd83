"""Is the evidence genuine? Pure functions of (evidence, endorsements, roots, floors, now).

Nothing here reads a file, a clock or a socket, and nothing here knows a policy: debug and TCB status are claims.
"""
