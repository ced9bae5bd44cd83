"""From pieces to sets of collateral. Pure; the signatures are checked only to find a certificate's own issuer.

A *pool* is the pieces that were found together: the files of one directory, the members of one bundle, or all files
that were named one by one. A pool with a TCB info makes a set for each TCB info in it; what it lacks it borrows from
the files that were named one by one and from pools without a TCB info. Where a pool has several pieces of one kind,
each combination that fits makes a set.
"""

import itertools
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import Kind, Piece
from proxy_attestation.endorsements.peek import peek_qe_identity, peek_tcb_info
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import ENDORSEMENT_SETS_MAX

_CHAIN_LENGTH = 3


class _Pool:
    """The pieces of one pool before those that it may borrow."""

    def __init__(self, own: Iterable[Piece], borrowed: Iterable[Piece]) -> None:
        self._own = _by_kind(own)
        self._borrowed = _by_kind(borrowed)

    def of(self, kind: Kind) -> list[Piece]:
        """Return the pool's own pieces of a kind, or the borrowed ones where it has none."""
        return self._own.get(kind) or self._borrowed.get(kind, [])

    def certificates(self) -> list[x509.Certificate]:
        """Return every certificate, the pool's own first."""
        kinds = (Kind.TCB_SIGNING, Kind.PCK_CA, Kind.PCK_LEAF, Kind.ROOT)
        return [
            x509.load_der_x509_certificate(piece.data)
            for pieces in (self._own, self._borrowed)
            for kind in kinds
            for piece in pieces.get(kind, [])
        ]


def assemble(pools: Sequence[Sequence[Piece]], loose: Sequence[Piece]) -> tuple[DcapEndorsements, ...]:
    """Make every set that the pieces hold.

    Args:
        pools: of directories and bundles, in the order in which their sets shall come.
        loose: the pieces of files that were named one by one: a pool, from which the others may borrow.

    Returns:
        Sets in which at least one piece is present, each once. Without any TCB info, one set of what there is.

    Raises:
        FormatError: `endorsements.malformed`, for more than 1,024 sets, or several PCK certificates for one.
    """
    shared = [*loose, *(piece for pool in pools if not _has_tcb_info(pool) for piece in pool)]
    own_pools = [pool for pool in (*pools, loose) if _has_tcb_info(pool)] or ([shared] if shared else [])
    sets: dict[DcapEndorsements, None] = {}
    for own in own_pools:
        sets.update(dict.fromkeys(_sets(_Pool(own, shared))))
        if len(sets) > ENDORSEMENT_SETS_MAX:
            raise _malformed(f"more than {ENDORSEMENT_SETS_MAX} sets")
    return tuple(sets)


def _sets(pool: _Pool) -> list[DcapEndorsements]:
    leaves = pool.of(Kind.PCK_LEAF)
    if len(leaves) > 1:
        raise _malformed(f"PCK certificates of several platforms: {leaves[0].source} and {leaves[1].source}")
    known = pool.certificates()
    infos, root_crls, pck_crls = pool.of(Kind.TCB_INFO), pool.of(Kind.ROOT_CA_CRL), pool.of(Kind.PCK_CRL)
    pck_chain = _chain(_newest(leaves), known)
    signing = {kind: _chain(_signer(pool, kind), known) for kind in (Kind.TCB_INFO, Kind.QE_IDENTITY)}
    sets: list[DcapEndorsements] = []
    for info in _or_none(infos):
        others = _or_none(_identities(pool, info)), _or_none(pck_crls), _or_none(root_crls)
        for identity, pck_crl, root_crl in itertools.product(*others):
            if len(sets) >= ENDORSEMENT_SETS_MAX:
                raise _malformed(f"more than {ENDORSEMENT_SETS_MAX} combinations of pieces")
            sets.append(
                DcapEndorsements(
                    tcb_info=_data(info),
                    tcb_info_issuer_chain=signing[Kind.TCB_INFO],
                    qe_identity=_data(identity),
                    qe_identity_issuer_chain=signing[Kind.QE_IDENTITY],
                    pck_crl=_data(pck_crl),
                    pck_crl_issuer_chain=_chain(_crl_issuer(pool, pck_crl), known),
                    root_ca_crl=_data(root_crl),
                    pck_certificate_chain=pck_chain,
                )
            )
    return sets


def _or_none(pieces: Sequence[Piece]) -> Sequence[Piece | None]:
    return pieces or [None]


def _identities(pool: _Pool, info: Piece | None) -> list[Piece]:
    """Return the QE identities for the TEE of a TCB info; where none is, all: appraisal says what is wrong."""
    identities = pool.of(Kind.QE_IDENTITY)
    tee = None if info is None else peek_tcb_info(info.data).tee
    return [piece for piece in identities if peek_qe_identity(piece.data).tee is tee] or identities


def _signer(pool: _Pool, kind: Kind) -> x509.Certificate | None:
    """Return the TCB signing certificate for a kind of document.

    One certificate serves both. Where there are several, those whose source names the document are preferred: it is
    the one question that content cannot answer when a certificate was renewed under the same key.
    """
    words = ("tcb_info", "tcbinfo") if kind is Kind.TCB_INFO else ("qe_identity", "qeidentity", "enclave_identity")
    signers = pool.of(Kind.TCB_SIGNING)
    named = [piece for piece in signers if any(word in _last_part(piece) for word in words)]
    return _newest(named or signers)


def _last_part(piece: Piece) -> str:
    return piece.source.rpartition("/")[2].lower().replace("-", "_")


def _crl_issuer(pool: _Pool, crl: Piece | None) -> x509.Certificate | None:
    """Return the PCK CA whose name a CRL bears; where none does, any: appraisal says what is wrong."""
    pieces = pool.of(Kind.PCK_CA)
    if crl is not None:
        issuer = x509.load_der_x509_crl(crl.data).issuer
        pieces = [piece for piece in pieces if _load(piece).subject == issuer] or pieces
    return _newest(pieces)


def _chain(leaf: x509.Certificate | None, known: Sequence[x509.Certificate]) -> bytes | None:
    """Return the PEM chain from a certificate upwards, as far as its issuers are known."""
    if leaf is None:
        return None
    chain = [leaf]
    while len(chain) < _CHAIN_LENGTH and chain[-1].issuer != chain[-1].subject:
        issuer = _issuer(chain[-1], known)
        if issuer is None:
            break
        chain.append(issuer)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def _issuer(certificate: x509.Certificate, known: Sequence[x509.Certificate]) -> x509.Certificate | None:
    named = [candidate for candidate in known if candidate.subject == certificate.issuer]
    # Two authorities may bear one name (a vendor's and its sample's): the key tells them apart.
    return next((candidate for candidate in named if _signed_by(certificate, candidate)), named[0] if named else None)


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _newest(pieces: Sequence[Piece]) -> x509.Certificate | None:
    return max((_load(piece) for piece in pieces), key=lambda found: found.not_valid_after_utc, default=None)


def _load(piece: Piece) -> x509.Certificate:
    return x509.load_der_x509_certificate(piece.data)


def _data(piece: Piece | None) -> bytes | None:
    return None if piece is None else piece.data


def _has_tcb_info(pool: Iterable[Piece]) -> bool:
    return any(piece.kind is Kind.TCB_INFO for piece in pool)


def _by_kind(pieces: Iterable[Piece]) -> dict[Kind, list[Piece]]:
    found: dict[Kind, dict[bytes, Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.kind, {}).setdefault(piece.data, piece)
    return {kind: list(by_data.values()) for kind, by_data in found.items()}


def _malformed(detail: str) -> FormatError:
    return FormatError(Code.ENDORSEMENTS_MALFORMED, detail)
