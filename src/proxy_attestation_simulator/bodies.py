"""Report bodies: an SGX enclave's (also the quoting enclave's) and a TD's. Integers are little-endian."""

import struct
from dataclasses import dataclass
from typing import Final

SGX_BODY_SIZE: Final = 384
TD_BODY_10_SIZE: Final = 584
TD_BODY_15_SIZE: Final = 648


@dataclass(frozen=True, slots=True)
class SgxBody:
    """An enclave's report body (Intel SDM vol. 3D, REPORT), fields by their names in the claims."""

    cpu_svn: bytes = bytes(16)
    misc_select: bytes = bytes(4)
    isv_ext_prod_id: bytes = bytes(16)
    attributes_flags: bytes = bytes.fromhex("0500000000000000")
    xfrm: bytes = bytes.fromhex("0700000000000000")
    mr_enclave: bytes = bytes(32)
    mr_signer: bytes = bytes(32)
    config_id: bytes = bytes(64)
    isv_prod_id: int = 0
    isv_svn: int = 0
    config_svn: int = 0
    isv_family_id: bytes = bytes(16)
    report_data: bytes = bytes(64)

    def encode(self) -> bytes:
        """Return the 384 bytes."""
        return b"".join(
            (
                self.cpu_svn,
                self.misc_select,
                bytes(12),
                self.isv_ext_prod_id,
                self.attributes_flags,
                self.xfrm,
                self.mr_enclave,
                bytes(32),
                self.mr_signer,
                bytes(32),
                self.config_id,
                struct.pack("<HHH", self.isv_prod_id, self.isv_svn, self.config_svn),
                bytes(42),
                self.isv_family_id,
                self.report_data,
            )
        )


@dataclass(frozen=True, slots=True)
class TdBody:
    """A TD's report body in a quote: 584 bytes of TDX 1.0, and 64 more of TDX 1.5."""

    tee_tcb_svn: bytes = bytes(16)
    mr_seam: bytes = bytes(48)
    mr_signer_seam: bytes = bytes(48)
    seam_attributes: bytes = bytes(8)
    td_attributes: bytes = bytes.fromhex("0000001000000000")
    xfam: bytes = bytes.fromhex("e700060000000000")
    mr_td: bytes = bytes(48)
    mr_config_id: bytes = bytes(48)
    mr_owner: bytes = bytes(48)
    mr_owner_config: bytes = bytes(48)
    rtmr0: bytes = bytes(48)
    rtmr1: bytes = bytes(48)
    rtmr2: bytes = bytes(48)
    rtmr3: bytes = bytes(48)
    report_data: bytes = bytes(64)
    tee_tcb_svn_2: bytes = bytes(16)
    mr_service_td: bytes = bytes(48)

    def encode_10(self) -> bytes:
        """Return the 584 bytes of TDX 1.0."""
        return b"".join(
            (
                self.tee_tcb_svn,
                self.mr_seam,
                self.mr_signer_seam,
                self.seam_attributes,
                self.td_attributes,
                self.xfam,
                self.mr_td,
                self.mr_config_id,
                self.mr_owner,
                self.mr_owner_config,
                self.rtmr0,
                self.rtmr1,
                self.rtmr2,
                self.rtmr3,
                self.report_data,
            )
        )

    def encode_15(self) -> bytes:
        """Return the 648 bytes of TDX 1.5."""
        return self.encode_10() + self.tee_tcb_svn_2 + self.mr_service_td
