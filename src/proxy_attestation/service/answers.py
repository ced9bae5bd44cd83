"""What the core answers, as messages of the wire."""

from proxy_attestation.authority.messages import AuthorityInfo, Issued
from proxy_attestation.formats.ear import claims_set_to_json
from proxy_attestation.service.challenge import Challenge
from proxy_attestation.service.early import RETRY_AFTER, Early
from proxy_attestation.v1 import proxy_attestation_pb2 as pb


def root_answer(info: AuthorityInfo, evidence: bytes = b"") -> pb.GetRootCertificateResponse:
    """Return the root bundle and what this proxy is, and evidence of exactly that, where it was asked for."""
    return pb.GetRootCertificateResponse(
        bundle=pb.RootBundle(sequence=info.bundle_sequence, roots=info.roots, issuing=info.issuing, cross=info.cross),
        policy_digest=info.policy_digest,
        ledger_key=info.ledger_key.encode(),
        key_origin=info.key_origin,
        deployment_statement=info.deployment_statement,
        evidence=evidence,
        trust_domain=info.trust_domain,
        simulated=info.simulated,
        dangers=info.dangers,
    )


def challenge_answer(challenge: Challenge) -> pb.GetChallengeResponse:
    """Return a challenge."""
    return pb.GetChallengeResponse(
        session_id=challenge.session_id,
        session_token=challenge.token,
        nonce=challenge.nonce,
        ca_id=challenge.ca_id,
        expires_at=challenge.expires_at,
        credential_blob=challenge.credential,
    )


def signed_answer(issued: Issued) -> pb.GetSignedCertificateResponse:
    """Return a certificate with its claims and the window in which to renew it: from 2/3 to 5/6 of its life."""
    life = issued.not_after - issued.not_before
    return pb.GetSignedCertificateResponse(
        chain=issued.chain,
        claims_json=claims_set_to_json(issued.claims_set),
        ledger_index=issued.index,
        ledger_proof=issued.proof,
        renewal=pb.RenewalInformation(start=issued.not_before + life * 2 // 3, end=issued.not_before + life * 5 // 6),
    )


def renewal_answer(early: Early | None) -> pb.GetRenewalInformationResponse:
    """Return that a certificate should be renewed now, and why; or no news."""
    if early is None:
        return pb.GetRenewalInformationResponse(retry_after=RETRY_AFTER)
    window = pb.RenewalInformation(start=early.since - 1, end=early.since)
    return pb.GetRenewalInformationResponse(renewal=window, codes=early.codes, retry_after=RETRY_AFTER)
