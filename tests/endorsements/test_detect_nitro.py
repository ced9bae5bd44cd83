"""What is taken for a Nitro root."""

import base64
from datetime import UTC, datetime

from proxy_attestation.endorsements.detect_nitro import nitro_root
from proxy_attestation_simulator.aws import REGION, Aws
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AWS = Aws.create(NOW, secret=bytes(32))


def test_a_root_in_der_or_pem() -> None:
    assert nitro_root(AWS.root_der) == AWS.root_der
    body = base64.encodebytes(AWS.root_der)
    pem = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
    assert nitro_root(pem) == AWS.root_der
    assert nitro_root(pem + pem) is None


def test_other_things_are_none() -> None:
    region = AWS._certificates(AWS._links("0", NOW))[REGION]
    for other in (b"", b"-----BEGIN ", region, Vendor.create(NOW, secret=bytes(32)).root_der, AWS.root_der + b"\0"):
        assert nitro_root(other) is None
