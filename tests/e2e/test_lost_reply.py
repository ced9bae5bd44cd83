"""A repeated call gets the same certificate; anything else under the same session gets none."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from workload import Client, Workload, new_key, request_for, tbs_digest

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation_simulator.harness import RunningProxy

pytestmark = pytest.mark.e2e


def test_the_same_call_again_gets_the_same_certificate(client: Client, workload: Workload) -> None:
    message = workload.message(client.challenge(), request_for(), new_key())
    first, second = client.sign(message), client.sign(message)
    assert tbs_digest(first.chain[0]) == tbs_digest(second.chain[0])
    assert first.ledger_index == second.ledger_index


def test_a_fresh_quote_for_the_same_call_gets_the_same_certificate(client: Client, workload: Workload) -> None:
    challenge, key, request = client.challenge(), new_key(), request_for()
    first = client.sign(workload.message(challenge, request, key))
    second = client.sign(workload.message(challenge, request, key))
    assert tbs_digest(first.chain[0]) == tbs_digest(second.chain[0])


def test_another_key_under_the_same_session_is_refused(client: Client, workload: Workload) -> None:
    challenge, request = client.challenge(), request_for()
    client.sign(workload.message(challenge, request, new_key()))
    with pytest.raises(ProxyAttestationError) as caught:
        client.sign(workload.message(challenge, request, new_key()))
    assert caught.value.code is Code.CHALLENGE_SPENT


def test_another_request_under_the_same_session_is_refused(client: Client, workload: Workload) -> None:
    challenge, key = client.challenge(), new_key()
    client.sign(workload.message(challenge, request_for(), key))
    with pytest.raises(ProxyAttestationError) as caught:
        client.sign(workload.message(challenge, request_for(lifetime=1800), key))
    assert caught.value.code is Code.CHALLENGE_SPENT


def test_many_at_once_under_one_session_get_one_certificate(proxy: RunningProxy, workload: Workload) -> None:
    first = Client.connect(proxy.connect, proxy.root_pin)
    message = workload.message(first.challenge(), request_for(), new_key())

    def ask(_: int) -> bytes:
        client = Client(proxy.connect, first.root)
        try:
            return bytes(client.sign(message).chain[0])
        finally:
            client.close()

    with ThreadPoolExecutor(8) as pool:
        leaves = list(pool.map(ask, range(24)))
    first.close()
    assert len({tbs_digest(leaf) for leaf in leaves}) == 1


def test_three_failed_tries_end_a_session(client: Client, workload: Workload) -> None:
    challenge, key = client.challenge(), new_key()
    wrong = workload.message(challenge, request_for(), key, binder={"nonce": b"\0" * 32})
    codes = []
    # Each of the two workers counts for itself: the session is over after six failed tries at the latest.
    for _ in range(7):
        with pytest.raises(ProxyAttestationError) as caught:
            client.sign(wrong)
        codes.append(caught.value.code)
    assert codes[:3] == [Code.BINDER_MISMATCH] * 3
    assert codes[-1] is Code.CHALLENGE_EXHAUSTED


def test_serial_numbers_are_long_and_never_repeat(client: Client, workload: Workload) -> None:
    serials = [
        x509.load_der_x509_certificate(
            client.sign(workload.message(client.challenge(), request_for(), new_key())).chain[0]
        ).serial_number
        for _ in range(20)
    ]
    assert len(set(serials)) == 20
    assert all(serial < 1 << 159 for serial in serials)
    assert sum(serial.bit_length() > 140 for serial in serials) == 20
