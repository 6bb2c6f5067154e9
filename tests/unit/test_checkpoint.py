"""Checkpoints as JSON, and their signatures."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from engine.checkpoint import Checkpoint, check_signature, sign
from engine.errors import InvalidValue, SignatureInvalid, SigningUnavailable

CHECKPOINT = Checkpoint(
    store_id="0d5b2f8e-8f5e-4b8e-9d0e-3d6b8d1f0a11",
    position=15,
    runs=3,
    deletions=1,
    root="ab" * 32,
    created_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
)


def written(key: Any, path: Path) -> tuple[Path, Path]:
    """Write the private and the public key as PEM files."""
    private, public = path.with_suffix(".key"), path.with_suffix(".pub")
    pem = serialization.Encoding.PEM
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """The paths of a private and a public key."""
    return written(ed25519.Ed25519PrivateKey.generate(), tmp_path / "mine")


def test_a_checkpoint_is_one_line_of_json(keys: tuple[Path, Path]) -> None:
    """A checkpoint, signed or not, is written as one line of JSON and read back unchanged."""
    for checkpoint in (CHECKPOINT, sign(CHECKPOINT, keys[0])):
        text = checkpoint.to_json()
        assert "\n" not in text
        assert Checkpoint.from_json(text) == Checkpoint.from_json(f" {text}\n".encode()) == checkpoint


BROKEN: dict[str, dict[str, Any]] = {
    "a position below zero": {"position": -1},
    "a position that is no number": {"position": "15"},
    "runs that no store has": {"runs": 2**63},
    "a root that is too short": {"root": "ab" * 31},
    "a root in capitals": {"root": "AB" * 32},
    "a root with a line end": {"root": "ab" * 32 + "\n"},
    "a time without a zone": {"created_at": "2026-11-21T12:00:00"},
    "a field that nobody knows": {"comment": "mine"},
    "a newer format": {"format": 2},
    "another algorithm": {"signature": {"public_key": "00", "value": "00", "algorithm": "none"}},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_checkpoint_is_refused(name: str) -> None:
    """A checkpoint document with an invalid field raises InvalidValue."""
    document = msgspec.json.decode(CHECKPOINT.to_json()) | BROKEN[name]
    with pytest.raises(InvalidValue):
        Checkpoint.from_json(msgspec.json.encode(document))


@pytest.mark.parametrize("field", ["store_id", "position", "runs", "deletions", "root", "created_at"])
def test_a_field_that_is_missing(field: str) -> None:
    """A checkpoint document without a required field raises InvalidValue."""
    document = msgspec.json.decode(CHECKPOINT.to_json())
    del document[field]
    with pytest.raises(InvalidValue):
        Checkpoint.from_json(msgspec.json.encode(document))


def test_a_text_that_is_cut() -> None:
    """A checkpoint's text cut at any place raises InvalidValue."""
    text = CHECKPOINT.to_json()
    for end in range(len(text)):
        with pytest.raises(InvalidValue):
            Checkpoint.from_json(text[:end])


@given(st.binary(max_size=30))
def test_any_bytes_are_refused(text: bytes) -> None:
    """Random bytes raise InvalidValue."""
    with pytest.raises(InvalidValue):
        Checkpoint.from_json(text)


def test_a_signature_holds(keys: tuple[Path, Path]) -> None:
    """A signed checkpoint verifies with the key that it names and with the right public key."""
    signed = Checkpoint.from_json(sign(CHECKPOINT, keys[0]).to_json())
    check_signature(signed)
    check_signature(signed, keys[1])


CHANGED: dict[str, Any] = {
    "store_id": "another",
    "position": 14,
    "runs": 2,
    "deletions": 0,
    "root": "cd" * 32,
    "created_at": datetime(2026, 11, 21, 13, tzinfo=UTC),
}


@pytest.mark.parametrize("field", CHANGED)
def test_a_signature_covers_every_field(keys: tuple[Path, Path], field: str) -> None:
    """A signed checkpoint with any field changed raises SignatureInvalid."""
    changed = structs.replace(sign(CHECKPOINT, keys[0]), **{field: CHANGED[field]})
    for key in (None, keys[1]):
        with pytest.raises(SignatureInvalid):
            check_signature(changed, key)


def test_a_signature_of_another_key(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """A checkpoint signed with another key raises SignatureInvalid against the right public key."""
    other = written(ed25519.Ed25519PrivateKey.generate(), tmp_path / "other")
    forged = sign(structs.replace(CHECKPOINT, position=14), other[0])
    check_signature(forged)
    with pytest.raises(SignatureInvalid):
        check_signature(forged, keys[1])


@pytest.mark.parametrize("changes", [{"value": "zz"}, {"value": ""}, {"public_key": "00"}, {"public_key": "zz"}])
def test_a_malformed_signature_is_refused(keys: tuple[Path, Path], changes: dict[str, str]) -> None:
    """A malformed signature raises SignatureInvalid."""
    signed = sign(CHECKPOINT, keys[0])
    assert signed.signature is not None
    with pytest.raises(SignatureInvalid):
        check_signature(structs.replace(signed, signature=structs.replace(signed.signature, **changes)))


def test_no_signature(keys: tuple[Path, Path]) -> None:
    """An unsigned checkpoint raises SignatureInvalid when a signature is required."""
    with pytest.raises(SignatureInvalid):
        check_signature(CHECKPOINT, keys[1])


def test_signing_again_replaces_the_signature(keys: tuple[Path, Path]) -> None:
    """Signing a signed checkpoint gives the same as signing it once."""
    assert sign(sign(CHECKPOINT, keys[0]), keys[0]) == sign(CHECKPOINT, keys[0])


def test_invalid_keys_are_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """A file with no key, the wrong half of a pair or another kind of key raises InvalidValue."""
    curve = written(ec.generate_private_key(ec.SECP256R1()), tmp_path / "curve")
    (tmp_path / "text").write_text("no key")
    signed = sign(CHECKPOINT, keys[0])
    for path in (tmp_path / "text", keys[1], curve[0]):
        with pytest.raises(InvalidValue, match="private key"):
            sign(CHECKPOINT, path)
    for path in (tmp_path / "text", keys[0], curve[1]):
        with pytest.raises(InvalidValue, match="public key"):
            check_signature(signed, path)
    with pytest.raises(FileNotFoundError):
        sign(CHECKPOINT, tmp_path / "nothing")


def test_without_the_extra(keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing and checking raise SigningUnavailable without the cryptography package."""
    signed = sign(CHECKPOINT, keys[0])
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(SigningUnavailable):
        sign(CHECKPOINT, keys[0])
    with pytest.raises(SigningUnavailable):
        check_signature(signed)
