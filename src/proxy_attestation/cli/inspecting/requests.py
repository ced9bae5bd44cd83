"""Certification requests and the request bytes of this project, as trees."""

import hashlib

from proxy_attestation.cli.inspecting.kinds import record_tree
from proxy_attestation.cli.inspecting.tree import Node
from proxy_attestation.formats.csr import Csr
from proxy_attestation.formats.request import Request


def csr_tree(csr: Csr) -> tuple[Node, ...]:
    """Return a certification request and the evidence in it.

    Raises:
        FormatError, AppraisalError: for evidence inside that cannot be read.
    """
    names = None if csr.names is None else list(csr.names.readable())
    return (
        Node("key", f"EC {csr.public_key.curve.name}"),
        Node("spki_sha256", hashlib.sha256(csr.spki).hexdigest()),
        Node("signature_hash", csr.algorithm.name, "the signature by its own key is not checked here"),
        Node("names", names, "what its subjectAltName asks for"),
        Node("evidence", None if csr.cmw is None else record_tree(csr.cmw)),
    )


def request_tree(request: Request, data: bytes) -> tuple[Node, ...]:
    """Return a request."""
    digest = request.runtime.application_sha256
    return (
        Node("workload", request.workload, "the policy entry that it names"),
        Node("tee", str(request.tee)),
        Node("names", list(request.names.readable()), "beside the entry's SPIFFE ID"),
        Node("lifetime", request.lifetime, "seconds that it asks for"),
        Node("application_kind", request.runtime.application_kind.name.lower(), "what the loader says runs behind it"),
        Node("application_sha256", None if digest is None else digest.hex()),
        Node("key_origin", request.runtime.key_origin.name.lower(), "where the loader says the key was made"),
        Node("sha256", hashlib.sha256(data).hexdigest(), "of the request's bytes, as the binder commits to them"),
    )
