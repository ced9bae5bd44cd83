"""Vendor collateral from directories and bundle files: the I/O beside appraisal."""
