"""Is it acceptable, and for which names? The one decision of the authority.

The walk, in this order; every mismatch is collected, and the first one's code is the error's:

    0. [deny]       nothing of it, whatever the entry says                         deny.*
    1. entry        the request names one of the policy                            policy.workload
    2. tee          of the entry, the request and the evidence, all the same       policy.tee
    3. debug        only where `[danger]` allows it                                sgx.debug, tdx.debug
    4. pins         what the TEE measured                                          policy.measurement, .signer,
                                                                                   .product, .svn, .attributes,
                                                                                   .config, tdx.service_td
       events       what an event log leads to; none of unknown type in a pinned   policy.event, tdx.event_unknown,
                    register                                                       tpm.event_unknown
       hardware     below a vTPM, where it vouches for the AK: steps 2 to 6 again   policy.signer where it is absent
    5. TCB status   one of the entry's words                                       sgx.tcb_status, tdx.tcb_status
    6. advisories   every one at the matched level is listed                       policy.advisory
    7. application  a digest where the entry has some, none where it has none      policy.application
    8. key origin   one that the entry accepts; a key in a TPM, certified as such  policy.key_origin,
                                                                                   tpm.software_key
    9. owner        a machine that it lists, the launch data that it names; who    owner.chip, owner.launch_data
                    holds the names, and proofs, are the authority's business
    10. names       every one that is asked for is granted                         policy.name

Debug stands before the pins because a debug enclave also differs in its attributes, and debug is what is wrong with it.

What the caller must still do: have the claims appraised, the request bound to them, and at the end compare the lifetime
with the policy's `min_lifetime` once the certificate's notAfter is known.
"""

from collections.abc import Iterator

from proxy_attestation.appraisal.claims import Claims, HardwareClaims, TcbClaims, claim_of
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.pins import HARDWARE, TCB_STATUS
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Names, Request
from proxy_attestation.formats.tee import debug_code, tcb_status_code
from proxy_attestation.policy.deny import match_certificate, match_claims
from proxy_attestation.policy.events import match_events
from proxy_attestation.policy.model import Decision, Hardware, OwnerKind, Policy, Workload
from proxy_attestation.policy.names import RESERVED_ENTRY, spiffe_id
from proxy_attestation.policy.ownership import launch_data
from proxy_attestation.policy.pins import match_pins


def decide(claims: Claims, request: Request, policy: Policy, spki_sha256: bytes = b"") -> Decision:
    """Decide one request. Pure, and never raises: a refusal is a decision with mismatches.

    Args:
        claims: what appraisal found out.
        request: what was asked for, and what the loader says of itself.
        policy: the policy in force.
        spki_sha256: 32 bytes, of the key that a certificate is asked for; empty where there is none.

    Returns:
        Accepted: the requested names that the entry grants and its SPIFFE ID, the lifetime, and the application digest,
        each of them the policy's own value. Refused: every mismatch, no names, lifetime 0 and no digest.
    """
    # 0. [deny].
    denied = (*match_claims(policy.deny, claims), *match_certificate(policy.deny, spki_sha256))
    # 1. Entry.
    workload = policy.workloads.get(request.workload)
    if workload is None:
        mismatch = Mismatch(Code.POLICY_WORKLOAD, "workload", "an entry of the policy", request.workload)
        return _refused((*denied, mismatch), None, request)
    own_id = spiffe_id(policy.trust_domain, workload.name)
    mismatches = (*denied, *_mismatches(claims, request, workload, own_id))
    if mismatches:
        return _refused(mismatches, workload, request)
    wanted, granted, claimed = request.names, workload.names, request.runtime.application_sha256
    return Decision(
        mismatches=(),
        workload=workload,
        names=Names(
            dns=tuple([name for name in granted.dns if name in wanted.dns]),
            ip=tuple([name for name in granted.ip if name in wanted.ip]),
            uri=(own_id,),
        ),
        lifetime=min(request.lifetime, workload.max_lifetime, policy.max_lifetime),
        application_kind=request.runtime.application_kind,
        application_sha256=next((digest for digest in workload.application if digest == claimed), None),
    )


def _refused(mismatches: tuple[Mismatch, ...], workload: Workload | None, request: Request) -> Decision:
    return Decision(mismatches, workload, Names(), 0, request.runtime.application_kind, None)


def _mismatches(claims: Claims, request: Request, workload: Workload, own_id: str) -> Iterator[Mismatch]:
    # 2. TEE. The claims say it, and so does the body that they hold.
    evidence = claims.tee if claims.tee is not workload.tee else claims.body.tee
    for whose, tee in (("the request's", request.tee), ("the evidence's", evidence)):
        if tee is not workload.tee:
            yield Mismatch(Code.POLICY_TEE, "tee", str(workload.tee), f"{whose} {tee}")
    # 3. Debug. The claim and the bit that it was read from: whichever says debug counts, below a vTPM too.
    rooted = claims.rooted
    if not workload.allow_debug and (claims.debug or claims.body.debug or rooted.debug or rooted.body.debug):
        yield Mismatch(debug_code(rooted.tee), "debug", "false", "true")
    # 4. Pins. Evidence of another TEE has no value for any of them: 2. has said so.
    if evidence is workload.tee:
        ruled = frozenset([rule.register for rule in workload.events])
        if workload.hardware is not None:
            ruled |= {HARDWARE}
            yield from _hardware_mismatches(workload.hardware, claims.hardware)
        yield from match_pins(workload.tee, workload.pins, claims.body, ruled)
        if ruled or claims.layers:
            yield from match_events(workload.tee, workload.events, frozenset(workload.pins), claims.layers)
    # 5. TCB status, where the entry's TEE has one.
    # 6. Advisories.
    yield from _platform_mismatches(workload, claims.tcb)
    # 7. Application. Only one that cannot quote has a digest that means something.
    kind, digest = request.runtime.application_kind, request.runtime.application_sha256
    meant = digest if kind is ApplicationKind.WASM else None
    if meant not in workload.application if workload.application else digest is not None:
        accepted = " or ".join(f"wasm {value.hex()}" for value in workload.application) or "no digest"
        actual = f"{kind.name.lower()} {digest.hex() if digest else 'without a digest'}"
        yield Mismatch(Code.POLICY_APPLICATION, "application", accepted, actual)
    # 8. Key origin.
    origin = request.runtime.key_origin
    if origin not in workload.key_origins:
        accepted = " or ".join(known.name.lower() for known in workload.key_origins)
        yield Mismatch(Code.POLICY_KEY_ORIGIN, "key_origins", accepted, origin.name.lower())
    if origin is KeyOrigin.TPM and not getattr(claims.body, "key_certified", False):
        yield Mismatch(Code.TPM_SOFTWARE_KEY, "key_certified", "true", "false")
    # 9. Owner.
    owner = workload.owner
    if owner.kind is OwnerKind.CHIP_IDS and claims.instance_id not in owner.chips:
        found = "another" if claims.instance_id else "none, or masked"
        yield Mismatch(Code.OWNER_CHIP, "chip_ids", f"one of {len(owner.chips)} machines", found)
    if owner.kind is OwnerKind.TENANT_KEY:
        wanted_data, data = launch_data(workload.tee, owner.key), claim_of(claims.body, owner.place)
        if evidence is workload.tee and data != wanted_data:
            actual = data.hex() if isinstance(data, bytes) else "nothing"
            yield Mismatch(Code.OWNER_LAUNCH_DATA, owner.place, wanted_data.hex(), actual)
    # 10. Names.
    wanted, granted = request.names, workload.names
    dns = [name for name in wanted.dns if name not in granted.dns]
    ip = [name for name in wanted.ip if name not in granted.ip]
    uri = [name for name in wanted.uri if name != own_id]
    if dns or ip or uri:
        for name in Names(tuple(dns), tuple(ip), tuple(uri)).readable():
            yield Mismatch(Code.POLICY_NAME, "names", ", ".join((*granted.readable(), own_id)), name)
    if workload.name == RESERVED_ENTRY:
        # No policy that was read from a file has such an entry. The proxy's own ids are worth a second look.
        yield Mismatch(Code.POLICY_NAME, "name", "an entry that is not the proxy's own", workload.name)


def _platform_mismatches(wanted: Workload | Hardware, tcb: TcbClaims | None) -> Iterator[Mismatch]:
    status = None if tcb is None else tcb.status
    if TCB_STATUS[wanted.tee] and status not in wanted.tcb:
        yield Mismatch(tcb_status_code(wanted.tee), "tcb", " or ".join(wanted.tcb), status or "none")
    for advisory in () if tcb is None else tcb.advisories:
        if advisory not in wanted.advisories:
            yield Mismatch(Code.POLICY_ADVISORY, "advisories", ", ".join(wanted.advisories) or "none", advisory)


def _hardware_mismatches(wanted: Hardware, found: HardwareClaims | None) -> Iterator[Mismatch]:
    """Hold what lies below a vTPM against the entry, as steps 2 and 4 to 6 do for a TEE that stands by itself."""
    if found is None:
        yield Mismatch(Code.POLICY_SIGNER, HARDWARE, str(wanted.tee), "none")
        return
    if found.tee is not wanted.tee or found.body.tee is not wanted.tee:
        yield Mismatch(Code.POLICY_TEE, HARDWARE, str(wanted.tee), str(found.tee))
        return
    yield from match_pins(wanted.tee, wanted.pins, found.body)
    yield from _platform_mismatches(wanted, found.tcb)
