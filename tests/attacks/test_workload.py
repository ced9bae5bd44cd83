"""Who controls a workload: he asks for the names of another one, and for the proxy's own."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from issuing import Issuing
from two_workloads import MR_OTHER, policy_of
from workload import Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, PolicyError
from proxy_attestation.formats.request import names_from

OTHERS = {"workload": "other-app", "names": names_from(("other.example.org",))}


def ask(proxy: Issuing, who: Workload, **request: Any) -> bytes:
    """Ask, and return the leaf."""
    answer = proxy.sign(who.message(proxy.challenge(), request_for(**request), new_key()))
    return bytes(answer.chain[0])


def attempt(proxy: Issuing, who: Workload, **request: Any) -> PolicyError:
    """Ask, and return the refusal with every mismatch."""
    with pytest.raises(PolicyError) as caught:
        ask(proxy, who, **request)
    return caught.value


def codes(error: PolicyError) -> list[Code]:
    return [mismatch.code for mismatch in error.mismatches]


def test_each_gets_its_own_names(proxy: Issuing, app: Workload, other: Workload) -> None:
    assert other.platform.quote(bytes(64)) != app.platform.quote(bytes(64))
    ask(proxy, app)
    ask(proxy, other, **OTHERS)


def test_the_entry_of_another_workload(proxy: Issuing, app: Workload) -> None:
    error = attempt(proxy, app, **OTHERS)
    assert codes(error) == [Code.POLICY_MEASUREMENT]
    assert error.mismatches[0].field == "mr_enclave"


def test_a_dns_name_of_another_workload(proxy: Issuing, app: Workload) -> None:
    both = names_from(("app.example.org", "other.example.org"))
    assert codes(attempt(proxy, app, names=both)) == [Code.POLICY_NAME]


def test_the_spiffe_id_of_another_workload(proxy: Issuing, app: Workload) -> None:
    names = names_from(("app.example.org",), uri=("spiffe://example.org/other-app",))
    assert codes(attempt(proxy, app, names=names)) == [Code.POLICY_NAME]


@pytest.mark.parametrize("path", ["proxy-attestation", "proxy-attestation/tls", "proxy-attestation/server"])
def test_the_proxy_s_reserved_id(proxy: Issuing, app: Workload, path: str) -> None:
    names = names_from(("app.example.org",), uri=(f"spiffe://example.org/{path}",))
    assert codes(attempt(proxy, app, names=names)) == [Code.POLICY_NAME]


def test_the_proxy_s_entry(proxy: Issuing, app: Workload) -> None:
    assert codes(attempt(proxy, app, workload="proxy-attestation")) == [Code.POLICY_WORKLOAD]


def test_a_policy_that_would_grant_it_is_none(proxy: Issuing) -> None:
    text = policy_of(proxy.vendor, version=3).replace('name = "other-app"', 'name = "proxy-attestation"')
    before = proxy.issuer.authority.info()
    with pytest.raises(ConfigurationError) as caught:
        proxy.apply(text)
    assert caught.value.code is Code.POLICY_MALFORMED
    assert proxy.issuer.authority.info() == before


def test_the_leaf_says_its_own_measurement_and_one_name_alone(proxy: Issuing, other: Workload) -> None:
    """Whatever was asked for, what a client reads is what was attested."""
    leaf = x509.load_der_x509_certificate(ask(proxy, other, **OTHERS))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/other-app"]
    assert names.get_values_for_type(x509.DNSName) == ["other.example.org"]
    assert MR_OTHER in leaf.public_bytes(Encoding.DER)
