"""Keys brought back or over: custodians, their shares, and the proxy that asks; outside the trusted rooms."""
