from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetRootCertificateRequest(_message.Message):
    __slots__ = ("nonce", "evidence")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    evidence: bool
    def __init__(self, nonce: _Optional[bytes] = ..., evidence: _Optional[bool] = ...) -> None: ...

class RootBundle(_message.Message):
    __slots__ = ("sequence", "roots", "issuing", "cross")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    ISSUING_FIELD_NUMBER: _ClassVar[int]
    CROSS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    roots: _containers.RepeatedScalarFieldContainer[bytes]
    issuing: _containers.RepeatedScalarFieldContainer[bytes]
    cross: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, sequence: _Optional[int] = ..., roots: _Optional[_Iterable[bytes]] = ..., issuing: _Optional[_Iterable[bytes]] = ..., cross: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetRootCertificateResponse(_message.Message):
    __slots__ = ("bundle", "policy_digest", "ledger_key", "key_origin", "deployment_statement", "evidence", "trust_domain", "simulated", "dangers")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LEDGER_KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    DANGERS_FIELD_NUMBER: _ClassVar[int]
    bundle: RootBundle
    policy_digest: bytes
    ledger_key: bytes
    key_origin: str
    deployment_statement: bytes
    evidence: bytes
    trust_domain: str
    simulated: bool
    dangers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, bundle: _Optional[_Union[RootBundle, _Mapping]] = ..., policy_digest: _Optional[bytes] = ..., ledger_key: _Optional[bytes] = ..., key_origin: _Optional[str] = ..., deployment_statement: _Optional[bytes] = ..., evidence: _Optional[bytes] = ..., trust_domain: _Optional[str] = ..., simulated: _Optional[bool] = ..., dangers: _Optional[_Iterable[str]] = ...) -> None: ...

class GetChallengeRequest(_message.Message):
    __slots__ = ("tee", "ek_certificate", "ak_public", "ek_issuers")
    TEE_FIELD_NUMBER: _ClassVar[int]
    EK_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    AK_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    EK_ISSUERS_FIELD_NUMBER: _ClassVar[int]
    tee: str
    ek_certificate: bytes
    ak_public: bytes
    ek_issuers: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, tee: _Optional[str] = ..., ek_certificate: _Optional[bytes] = ..., ak_public: _Optional[bytes] = ..., ek_issuers: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetChallengeResponse(_message.Message):
    __slots__ = ("session_id", "session_token", "nonce", "ca_id", "expires_at", "credential_blob")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CA_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_BLOB_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    session_token: bytes
    nonce: bytes
    ca_id: bytes
    expires_at: int
    credential_blob: bytes
    def __init__(self, session_id: _Optional[bytes] = ..., session_token: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., ca_id: _Optional[bytes] = ..., expires_at: _Optional[int] = ..., credential_blob: _Optional[bytes] = ...) -> None: ...

class NamedPart(_message.Message):
    __slots__ = ("name", "content")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    content: bytes
    def __init__(self, name: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class OwnerProof(_message.Message):
    __slots__ = ("kind", "proof")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    kind: str
    proof: bytes
    def __init__(self, kind: _Optional[str] = ..., proof: _Optional[bytes] = ...) -> None: ...

class GetSignedCertificateRequest(_message.Message):
    __slots__ = ("session_token", "request", "csr", "evidence", "parts", "owner_proof")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    OWNER_PROOF_FIELD_NUMBER: _ClassVar[int]
    session_token: bytes
    request: bytes
    csr: bytes
    evidence: bytes
    parts: _containers.RepeatedCompositeFieldContainer[NamedPart]
    owner_proof: OwnerProof
    def __init__(self, session_token: _Optional[bytes] = ..., request: _Optional[bytes] = ..., csr: _Optional[bytes] = ..., evidence: _Optional[bytes] = ..., parts: _Optional[_Iterable[_Union[NamedPart, _Mapping]]] = ..., owner_proof: _Optional[_Union[OwnerProof, _Mapping]] = ...) -> None: ...

class RenewalInformation(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class GetRenewalInformationRequest(_message.Message):
    __slots__ = ("certificate_id",)
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    certificate_id: str
    def __init__(self, certificate_id: _Optional[str] = ...) -> None: ...

class GetRenewalInformationResponse(_message.Message):
    __slots__ = ("renewal", "codes", "retry_after")
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    renewal: RenewalInformation
    codes: _containers.RepeatedScalarFieldContainer[str]
    retry_after: int
    def __init__(self, renewal: _Optional[_Union[RenewalInformation, _Mapping]] = ..., codes: _Optional[_Iterable[str]] = ..., retry_after: _Optional[int] = ...) -> None: ...

class GetSignedCertificateResponse(_message.Message):
    __slots__ = ("chain", "claims_json", "ledger_index", "ledger_proof", "renewal")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_JSON_FIELD_NUMBER: _ClassVar[int]
    LEDGER_INDEX_FIELD_NUMBER: _ClassVar[int]
    LEDGER_PROOF_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    chain: _containers.RepeatedScalarFieldContainer[bytes]
    claims_json: str
    ledger_index: int
    ledger_proof: bytes
    renewal: RenewalInformation
    def __init__(self, chain: _Optional[_Iterable[bytes]] = ..., claims_json: _Optional[str] = ..., ledger_index: _Optional[int] = ..., ledger_proof: _Optional[bytes] = ..., renewal: _Optional[_Union[RenewalInformation, _Mapping]] = ...) -> None: ...

class GetLedgerProofRequest(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class GetLedgerProofResponse(_message.Message):
    __slots__ = ("inclusion_proof", "checkpoint")
    INCLUSION_PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    inclusion_proof: bytes
    checkpoint: bytes
    def __init__(self, inclusion_proof: _Optional[bytes] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...
