"""One fuzz harness: `harness.py NAME [libFuzzer options] CORPUS`.

The invariant of every harness, in one sentence: any bytes give a value or a `ProxyAttestationError`, within five
seconds and 512 MiB, and never another exception.
"""

import sys

import atheris

with atheris.instrument_imports(include=["proxy_attestation"], enable_loader_override=False):
    from targets import TARGETS

    from proxy_attestation.errors import ProxyAttestationError


def main() -> None:
    """Fuzz the target that the first argument names."""
    name = sys.argv.pop(1)
    target = TARGETS[name].parse

    def one_input(data: bytes) -> None:
        try:
            target(data)
        except ProxyAttestationError as error:
            # A refusal without a code, or one that is a bug of ours, is a finding too.
            if error.exit_status == 70:
                raise

    atheris.Setup([*sys.argv, "-timeout=5", "-rss_limit_mb=512", "-print_final_stats=1"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
