from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class EkepVersion(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class AdditionalAuthenticatedData(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class AssertionDescription(_message.Message):
    __slots__ = ("identity_type", "authority_type")
    IDENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    identity_type: int
    authority_type: str
    def __init__(self, identity_type: _Optional[int] = ..., authority_type: _Optional[str] = ...) -> None: ...

class AssertionOffer(_message.Message):
    __slots__ = ("description", "additional_information")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_INFORMATION_FIELD_NUMBER: _ClassVar[int]
    description: AssertionDescription
    additional_information: bytes
    def __init__(self, description: _Optional[_Union[AssertionDescription, _Mapping]] = ..., additional_information: _Optional[bytes] = ...) -> None: ...

class AssertionRequest(_message.Message):
    __slots__ = ("description", "additional_information")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_INFORMATION_FIELD_NUMBER: _ClassVar[int]
    description: AssertionDescription
    additional_information: bytes
    def __init__(self, description: _Optional[_Union[AssertionDescription, _Mapping]] = ..., additional_information: _Optional[bytes] = ...) -> None: ...

class Assertion(_message.Message):
    __slots__ = ("description", "assertion")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ASSERTION_FIELD_NUMBER: _ClassVar[int]
    description: AssertionDescription
    assertion: bytes
    def __init__(self, description: _Optional[_Union[AssertionDescription, _Mapping]] = ..., assertion: _Optional[bytes] = ...) -> None: ...

class Abort(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class ClientPrecommit(_message.Message):
    __slots__ = ("available_ekep_versions", "available_cipher_suites", "available_record_protocols", "options", "client_offers", "client_requests", "challenge")
    AVAILABLE_EKEP_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_CIPHER_SUITES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_RECORD_PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_OFFERS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    available_ekep_versions: _containers.RepeatedCompositeFieldContainer[EkepVersion]
    available_cipher_suites: _containers.RepeatedScalarFieldContainer[int]
    available_record_protocols: _containers.RepeatedScalarFieldContainer[int]
    options: AdditionalAuthenticatedData
    client_offers: _containers.RepeatedCompositeFieldContainer[AssertionOffer]
    client_requests: _containers.RepeatedCompositeFieldContainer[AssertionRequest]
    challenge: bytes
    def __init__(self, available_ekep_versions: _Optional[_Iterable[_Union[EkepVersion, _Mapping]]] = ..., available_cipher_suites: _Optional[_Iterable[int]] = ..., available_record_protocols: _Optional[_Iterable[int]] = ..., options: _Optional[_Union[AdditionalAuthenticatedData, _Mapping]] = ..., client_offers: _Optional[_Iterable[_Union[AssertionOffer, _Mapping]]] = ..., client_requests: _Optional[_Iterable[_Union[AssertionRequest, _Mapping]]] = ..., challenge: _Optional[bytes] = ...) -> None: ...

class ServerPrecommit(_message.Message):
    __slots__ = ("selected_ekep_version", "selected_cipher_suite", "selected_record_protocol", "options", "server_offers", "server_requests", "challenge")
    SELECTED_EKEP_VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTED_CIPHER_SUITE_FIELD_NUMBER: _ClassVar[int]
    SELECTED_RECORD_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SERVER_OFFERS_FIELD_NUMBER: _ClassVar[int]
    SERVER_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    selected_ekep_version: EkepVersion
    selected_cipher_suite: int
    selected_record_protocol: int
    options: AdditionalAuthenticatedData
    server_offers: _containers.RepeatedCompositeFieldContainer[AssertionOffer]
    server_requests: _containers.RepeatedCompositeFieldContainer[AssertionRequest]
    challenge: bytes
    def __init__(self, selected_ekep_version: _Optional[_Union[EkepVersion, _Mapping]] = ..., selected_cipher_suite: _Optional[int] = ..., selected_record_protocol: _Optional[int] = ..., options: _Optional[_Union[AdditionalAuthenticatedData, _Mapping]] = ..., server_offers: _Optional[_Iterable[_Union[AssertionOffer, _Mapping]]] = ..., server_requests: _Optional[_Iterable[_Union[AssertionRequest, _Mapping]]] = ..., challenge: _Optional[bytes] = ...) -> None: ...

class ClientId(_message.Message):
    __slots__ = ("dh_public_key", "assertions")
    DH_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    ASSERTIONS_FIELD_NUMBER: _ClassVar[int]
    dh_public_key: bytes
    assertions: _containers.RepeatedCompositeFieldContainer[Assertion]
    def __init__(self, dh_public_key: _Optional[bytes] = ..., assertions: _Optional[_Iterable[_Union[Assertion, _Mapping]]] = ...) -> None: ...

class ServerId(_message.Message):
    __slots__ = ("dh_public_key", "assertions")
    DH_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    ASSERTIONS_FIELD_NUMBER: _ClassVar[int]
    dh_public_key: bytes
    assertions: _containers.RepeatedCompositeFieldContainer[Assertion]
    def __init__(self, dh_public_key: _Optional[bytes] = ..., assertions: _Optional[_Iterable[_Union[Assertion, _Mapping]]] = ...) -> None: ...

class ServerFinish(_message.Message):
    __slots__ = ("handshake_authenticator",)
    HANDSHAKE_AUTHENTICATOR_FIELD_NUMBER: _ClassVar[int]
    handshake_authenticator: bytes
    def __init__(self, handshake_authenticator: _Optional[bytes] = ...) -> None: ...

class ClientFinish(_message.Message):
    __slots__ = ("handshake_authenticator",)
    HANDSHAKE_AUTHENTICATOR_FIELD_NUMBER: _ClassVar[int]
    handshake_authenticator: bytes
    def __init__(self, handshake_authenticator: _Optional[bytes] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("method", "body")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    method: str
    body: bytes
    def __init__(self, method: _Optional[str] = ..., body: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("status", "body")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    status: int
    body: bytes
    def __init__(self, status: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...
