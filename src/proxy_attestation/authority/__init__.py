"""Decision and public key to a certificate in the ledger. Its own process: keys, ledger, profile, decision."""
