"""Bringing an authority's keys back or over: custodians, their shares, the proxy that asks. No trusted room."""
