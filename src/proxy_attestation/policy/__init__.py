"""Is it acceptable, and for which names? (Claims, Request, Policy) to a decision with every mismatch.

Code here sees verified claims and never raw evidence.
"""
