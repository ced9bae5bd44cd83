"""A local vendor and simulated TEEs in the real binary formats, for tests and demonstrations.

Nothing here proves anything: the keys lie in ordinary files and every measurement can be chosen. Every certificate
that this package makes says so in its subject (CN "Simulated ...", O = SIMULATED). Only an authority that was made
`--simulated` accepts its evidence.

The encoders are independent of `proxy_attestation`, so that a mistake in a format shows as a disagreement.
"""

__version__ = "0.1.0"
