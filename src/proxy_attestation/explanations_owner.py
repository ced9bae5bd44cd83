"""The cause and the fix of every code about who may hold an entry's names."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

_LINES: Final[dict[Code, tuple[str, str]]] = {
    Code.POLICY_OWNER: (
        "The instance has not shown the kind of proof that the entry's owner asks for.",
        "Give the loader what the entry's owner takes, in [owner]: a token or a grant; docs/ownership.md says how.",
    ),
    Code.POLICY_OWNER_HELD: (
        "Another instance holds the entry's names, and its certificate has not expired.",
        "Stop that instance and wait for its certificate to expire, or release the names with `owner release`.",
    ),
    Code.OWNER_MALFORMED: (
        "The owner proof, the token or the grant is not in the form that docs/protocol.md gives.",
        "Use the token or grant exactly as `owner token` or `owner grant` printed it.",
    ),
    Code.OWNER_CHIP: (
        "The machine is not one of those that the entry's owner lists, or its identity is masked.",
        "Run the workload on a listed machine that shows its identity, or list this machine in the policy.",
    ),
    Code.OWNER_LAUNCH_DATA: (
        "The launch data that the entry's owner names does not hold the digest of the tenant's key.",
        "Launch the workload with the SHA-256 of the tenant's key in that field; `policy check` prints the value.",
    ),
    Code.OWNER_TOKEN: (
        "The token is not one of this proxy's, or the proof of it was made for another certificate.",
        "Make a token with `owner token` on this proxy, and hand it to the loader unchanged.",
    ),
    Code.OWNER_TOKEN_ENTRY: (
        "The token was made for another policy entry.",
        "Make a token for the entry that the workload asks for.",
    ),
    Code.OWNER_TOKEN_EXPIRED: (
        "The token has expired before it was used.",
        "Make a new token with `owner token`; with --expires it may live up to seven days.",
    ),
    Code.OWNER_TOKEN_SPENT: (
        "The token was used before: each token claims a name once.",
        "Make a new token. If nobody of yours has used it, somebody else has: look at `owner list`.",
    ),
    Code.OWNER_GRANT: (
        "The grant is not signed by the tenant's key that the policy names.",
        "Sign it with that key: `owner grant --key`.",
    ),
    Code.OWNER_GRANT_SCOPE: (
        "The grant is for another trust domain, entry or key than the certificate that is asked for.",
        "Make a grant for the SPKI digest that the loader shows now; each enrolment has a new key.",
    ),
    Code.OWNER_GRANT_EXPIRED: (
        "The grant has expired.",
        "Make a new grant for the key that the loader shows now.",
    ),
    Code.OWNER_GRANT_LIFETIME: (
        "The grant lies further ahead of its expiry than a grant may.",
        "Make a grant that expires within seven days.",
    ),
    Code.OWNER_RENEWAL: (
        "The renewal is not signed by the key of the holder's last certificate, or for another certificate.",
        "Renew from the process that got the last certificate; a process without its key needs a new proof.",
    ),
    Code.OWNER_MACHINE: (
        "The renewal comes from another machine than the one that claimed the entry's names.",
        "Run the workload where it claimed the names, or release them and claim them anew with a new proof.",
    ),
    Code.OWNER_EXPIRED: (
        "The certificate that the renewal rests on has expired, or its names were released.",
        "Claim the names anew: with a new token or a new grant, as the entry's owner takes.",
    ),
    Code.OWNER_REVOKED: (
        "The certificate that the renewal rests on was revoked.",
        "Release the names with `owner release`, and claim them anew with a new proof.",
    ),
    Code.OWNER_UNHELD: (
        "Nobody holds the names of this entry, or another holder than the one that was given.",
        "See `owner list` for who holds what now.",
    ),
    Code.OWNER_NEEDED: (
        "The loader has no grant for its new key yet, and the entry's owner takes one.",
        "Have the tenant sign the SPKI digest that the loader shows: `owner grant`; docs/ownership.md says how.",
    ),
}

OWNER: Final[dict[Code, Explanation]] = {code: Explanation(cause, fix) for code, (cause, fix) in _LINES.items()}
