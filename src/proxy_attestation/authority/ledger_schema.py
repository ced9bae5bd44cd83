"""The tables of the ledger's SQLite file (`ledger.py`). A change here is a new version and a migration."""

from typing import Final

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x50415454
"""`PATT`, in the file's header."""

SCHEMA: Final = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE entry (
    idx INTEGER PRIMARY KEY CHECK (idx >= 0),
    kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 8),
    entry BLOB NOT NULL CHECK (length(entry) BETWEEN 1 AND 4096),
    tbs BLOB CHECK (length(tbs) BETWEEN 1 AND 8192),
    not_before INTEGER CHECK (not_before > 0),
    not_after INTEGER CHECK (not_after > not_before),
    spki_sha256 BLOB CHECK (length(spki_sha256) = 32),
    session_id BLOB CHECK (length(session_id) = 16),
    request_sha256 BLOB CHECK (length(request_sha256) = 32),
    claims_set BLOB CHECK (length(claims_set) BETWEEN 1 AND 2048),
    CHECK (kind NOT IN (1, 3, 5)
        OR tbs IS NOT NULL AND not_before IS NOT NULL AND not_after IS NOT NULL AND spki_sha256 IS NOT NULL),
    CHECK (kind <> 1 OR session_id IS NOT NULL AND request_sha256 IS NOT NULL AND claims_set IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX entry_session ON entry (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX entry_not_before ON entry (not_before);
CREATE TRIGGER entry_dense BEFORE INSERT ON entry
    WHEN NEW.idx IS NOT (SELECT coalesce(max(idx) + 1, 0) FROM entry)
    BEGIN SELECT raise(ABORT, 'the index is not the next one'); END;
CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry
    BEGIN SELECT raise(ABORT, 'entries do not change'); END;
CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry
    BEGIN SELECT raise(ABORT, 'entries do not go'); END;

CREATE TABLE ca (
    number INTEGER PRIMARY KEY CHECK (number >= 0),
    idx INTEGER NOT NULL UNIQUE REFERENCES entry (idx),
    certificate BLOB NOT NULL CHECK (length(certificate) BETWEEN 1 AND 8192)
) STRICT;

CREATE TABLE floor (
    issuer TEXT NOT NULL,
    tee TEXT NOT NULL CHECK (tee IN ('sgx', 'tdx', 'snp')),
    fmspc BLOB NOT NULL CHECK (length(fmspc) BETWEEN 1 AND 16),
    evaluation_number INTEGER NOT NULL CHECK (evaluation_number >= 0),
    issue_date INTEGER NOT NULL CHECK (issue_date >= 0),
    pck_crl_number BLOB NOT NULL CHECK (length(pck_crl_number) = 20),
    root_crl_number BLOB NOT NULL CHECK (length(root_crl_number) = 20),
    PRIMARY KEY (issuer, tee, fmspc)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER floor_only_rises BEFORE UPDATE ON floor
    WHEN NEW.evaluation_number < OLD.evaluation_number OR NEW.issue_date < OLD.issue_date
        OR NEW.pck_crl_number < OLD.pck_crl_number OR NEW.root_crl_number < OLD.root_crl_number
    BEGIN SELECT raise(ABORT, 'a floor does not sink'); END;
CREATE TRIGGER floor_no_delete BEFORE DELETE ON floor
    BEGIN SELECT raise(ABORT, 'a floor does not go'); END;

CREATE TABLE token_key (
    key_id BLOB PRIMARY KEY CHECK (length(key_id) = 4),
    key BLOB NOT NULL CHECK (length(key) = 32),
    not_after INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The life of certificates (ledger_life.py). From when a CA's key signs: an issuing CA's number, or 1 minus a root's
-- generation.
CREATE TABLE activation (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL CHECK (at > 0)
) STRICT;

-- Roots after the first: certified by themselves, by the root before, and the root before certified by them.
CREATE TABLE root (
    generation INTEGER PRIMARY KEY CHECK (generation >= 2),
    certificate BLOB NOT NULL CHECK (length(certificate) BETWEEN 1 AND 8192),
    forward BLOB NOT NULL CHECK (length(forward) BETWEEN 1 AND 8192),
    back BLOB NOT NULL CHECK (length(back) BETWEEN 1 AND 8192)
) STRICT;

-- What was revoked: one certificate where there is a serial number, or every one of a key.
CREATE TABLE revoked (
    idx INTEGER PRIMARY KEY REFERENCES entry (idx),
    serial BLOB UNIQUE CHECK (length(serial) = 20),
    spki_sha256 BLOB NOT NULL CHECK (length(spki_sha256) = 32),
    not_after INTEGER NOT NULL
) STRICT;
CREATE INDEX revoked_spki ON revoked (spki_sha256);
CREATE INDEX revoked_not_after ON revoked (not_after);
CREATE INDEX entry_spki ON entry (spki_sha256) WHERE spki_sha256 IS NOT NULL;

-- Who holds the names of each owned entry (ownership.py).
CREATE TABLE owner (
    entry TEXT PRIMARY KEY CHECK (length(entry) BETWEEN 1 AND 63),
    kind TEXT NOT NULL CHECK (kind IN ('chip_ids', 'tenant_key', 'enrolment', 'first_use')),
    holder BLOB NOT NULL CHECK (length(holder) = 32),
    terms BLOB NOT NULL CHECK (length(terms) = 32),
    machine BLOB CHECK (length(machine) = 32),
    spki_sha256 BLOB NOT NULL CHECK (length(spki_sha256) = 32),
    not_after INTEGER NOT NULL CHECK (not_after > 0),
    held_until INTEGER NOT NULL CHECK (held_until >= not_after),
    idx INTEGER NOT NULL UNIQUE REFERENCES entry (idx),
    mac BLOB NOT NULL CHECK (length(mac) = 32)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER owner_same_holder BEFORE UPDATE ON owner
    WHEN NEW.entry <> OLD.entry OR NEW.holder <> OLD.holder OR NEW.terms <> OLD.terms OR NEW.idx <> OLD.idx
        OR NEW.kind <> OLD.kind OR NEW.machine IS NOT OLD.machine OR NEW.held_until < OLD.held_until
    BEGIN SELECT raise(ABORT, 'names change hands by release and claim'); END;

CREATE INDEX entry_ownership ON entry (idx) WHERE kind = 4;

-- One-time tokens for entries owned by enrolment (ownership.py); their secrets are derived.
CREATE TABLE enrolment (
    token_id BLOB PRIMARY KEY CHECK (length(token_id) = 16),
    entry TEXT NOT NULL,
    expires INTEGER NOT NULL CHECK (expires > 0),
    spent INTEGER UNIQUE REFERENCES entry (idx),
    mac BLOB NOT NULL CHECK (length(mac) = 32)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER enrolment_once BEFORE UPDATE ON enrolment
    WHEN OLD.spent IS NOT NULL OR NEW.entry <> OLD.entry OR NEW.expires <> OLD.expires
    BEGIN SELECT raise(ABORT, 'a token is spent once'); END;

-- The evidence behind each leaf, for re-appraisal (evidence_store.py); rows may go, and nothing else refers to them.
CREATE TABLE evidence (
    idx INTEGER PRIMARY KEY REFERENCES entry (idx),
    not_after INTEGER NOT NULL CHECK (not_after > 0),
    size INTEGER NOT NULL CHECK (size = length(request) + length(spki) + length(kept)),
    request BLOB NOT NULL,
    spki BLOB NOT NULL,
    kept BLOB NOT NULL
) STRICT;
CREATE INDEX evidence_not_after ON evidence (not_after, size);

-- The Merkle tree (tree.py): with each entry the hashes of the subtrees that it completed, from its leaf upwards.
CREATE TABLE node (
    idx INTEGER PRIMARY KEY REFERENCES entry (idx),
    hashes BLOB NOT NULL CHECK (length(hashes) BETWEEN 32 AND 2016 AND length(hashes) % 32 = 0)
) STRICT;
CREATE TRIGGER node_dense BEFORE INSERT ON node
    WHEN NEW.idx IS NOT (SELECT coalesce(max(idx) + 1, 0) FROM node)
    BEGIN SELECT raise(ABORT, 'the node is not the next one'); END;
CREATE TRIGGER node_no_update BEFORE UPDATE ON node
    BEGIN SELECT raise(ABORT, 'nodes do not change'); END;
CREATE TRIGGER node_no_delete BEFORE DELETE ON node
    BEGIN SELECT raise(ABORT, 'nodes do not go'); END;

-- Signed notes: the newest checkpoint that we signed, and the newest one that enough witnesses have cosigned.
CREATE TABLE checkpoint (
    name TEXT PRIMARY KEY CHECK (name IN ('signed', 'witnessed')),
    size INTEGER NOT NULL CHECK (size > 0),
    note BLOB NOT NULL CHECK (length(note) BETWEEN 1 AND 16384)
) STRICT;
CREATE TRIGGER checkpoint_only_rises BEFORE UPDATE ON checkpoint
    WHEN NEW.size < OLD.size
    BEGIN SELECT raise(ABORT, 'a checkpoint does not sink'); END;
CREATE TRIGGER checkpoint_no_delete BEFORE DELETE ON checkpoint
    BEGIN SELECT raise(ABORT, 'a checkpoint does not go'); END;

-- The policies that were in force (authority.py, `policy log`).
CREATE INDEX entry_policy ON entry (idx) WHERE kind = 2;
"""
