"""Bringing an authority's keys back or over: custodians, their shares, and the proxy that asks. Outside the trusted rooms."""
