"""Secrets that a TEE gives to the code in it and to nobody else: what the authority's keys are sealed with."""
