"""Bindings around chosen report data, for attesters that are tested without a challenge."""

from proxy_attestation.formats.binder import Binding


def binding_of(report_data: bytes, nonce: bytes = b"n" * 32, spki: bytes = b"k" * 91) -> Binding:
    """Return a binding that asks for this report data."""
    return Binding(report_data, b"d" * 32, nonce, spki)
