"""Names that `serve` needs without loading what fetches."""

from typing import Final

CONFIG: Final = "endorsements.toml"
"""In STATE: where to ask, and for which platforms."""
SERVE_CONFIG: Final = "serve.toml"
TABLE: Final = "endorsements"
"""In serve.toml: the same, in a table."""
REFRESH_MODULE: Final = "proxy_attestation.cli.endorsing.process"
"""What `serve` starts to keep collateral fresh."""
