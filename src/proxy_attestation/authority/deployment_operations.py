"""What an operator may have done about the deployment statement (`operations.py`; docs/proxy-evidence.md)."""

import hashlib
from typing import Annotated, Any, Final, NamedTuple

from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Digest
from proxy_attestation.authority.operation import Operation
from proxy_attestation.formats.arrays import Size
from proxy_attestation.formats.bounds import DEPLOYMENT_NOTE_MAX


class Ask(NamedTuple):
    """The argument of an operation that needs none."""


class About(NamedTuple):
    """What a deployment statement of this proxy has to name.

    Attributes:
        trust_domain: the SPIFFE trust domain.
        root_spki_sha256: of the root that it answers first, 32 bytes.
        ledger_key: the log's vkey.
    """

    trust_domain: Annotated[str, Size(1, 255)]
    root_spki_sha256: Digest
    ledger_key: Annotated[str, Size(1, 512)]


class Install(NamedTuple):
    """A deployment statement, a signed note."""

    note: Annotated[bytes, Size(1, DEPLOYMENT_NOTE_MAX)]


def _about(issuer: Issuer, _: Ask) -> About:
    authority = issuer.authority
    root = hashlib.sha256(authority.root_facts().root).digest()
    return About(authority.settings.trust_domain, root, authority.ledger_key)


def _install(issuer: Issuer, order: Install) -> About:
    issuer.authority.install_deployment(order.note)
    return _about(issuer, Ask())


DEPLOYMENT_ABOUT: Final = Operation[Ask, About]("deployment-about", Ask, About, _about)
DEPLOYMENT_INSTALL: Final = Operation[Install, About]("deployment-install", Install, About, _install)

DEPLOYMENT_OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (DEPLOYMENT_ABOUT, DEPLOYMENT_INSTALL)
