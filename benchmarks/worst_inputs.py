"""What the most costly inputs that the bounds let in cost, beside a signature check measured in the same run.

Exits 1 where one costs more than `MOST` times as much as a bare ECDSA P-384 verification. Usage: worst_inputs.py
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from worst import CASES

from proxy_attestation.errors import ProxyAttestationError

ROUNDS: Final = 5
MOST: Final = 100


def cost(call: Callable[[], object]) -> float:
    """Return the CPU seconds of one call that may end in a refusal."""
    started = time.process_time()
    with suppress(ProxyAttestationError):
        call()
    return time.process_time() - started


def yardstick() -> Callable[[], object]:
    """Return ten bare verifications."""
    key = ec.generate_private_key(ec.SECP384R1())
    scheme = ec.ECDSA(hashes.SHA384())
    signature, public = key.sign(b"data", scheme), key.public_key()
    return lambda: [public.verify(signature, b"data", scheme) for _ in range(10)]


def main() -> int:
    """Print a line for each input; return the exit status."""
    bare = yardstick()
    worst = 0.0
    print(f"{'CPU milliseconds, least of ' + str(ROUNDS):<36} {'input':>8} {'P-384':>8} {'times':>8}")
    for name, prepare in CASES.items():
        call = prepare()
        cost(call)
        pairs = [(cost(call), cost(bare) / 10) for _ in range(ROUNDS)]
        one, unit = (min(column) for column in zip(*pairs, strict=True))
        worst = max(worst, one / unit)
        print(f"{name.replace('_', ' '):<36} {one * 1e3:8.2f} {unit * 1e3:8.3f} {one / unit:8.1f}")
    if worst > MOST:
        print(f"error: an input costs {worst:.0f} verifications, at most {MOST} are allowed")
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
