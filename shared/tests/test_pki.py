"""What makes a pair of key and certificate good, or not."""

from base64 import b64decode, encodebytes
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from controlkit.pki import AUTHORITIES_KEPT, VALIDITY, Names, Pair, flaw, issue

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NAMES = Names(("webhook.ns.svc", "webhook.ns.svc.cluster.local"), ("127.0.0.1", "::1"))
DAY = timedelta(days=1)


def problem(pair: Pair, now: datetime = NOW, names: Names = NAMES) -> str:
    return flaw(pair, names, now, before=DAY)


def test_a_fresh_pair_has_no_flaw() -> None:
    assert problem(issue(NAMES, NOW)) == ""


@pytest.mark.parametrize(("left", "renewed"), [(timedelta(hours=25), False), (DAY / 2, True)])
def test_it_is_replaced_a_day_before_its_end(left: timedelta, renewed: bool) -> None:
    said = problem(issue(NAMES, NOW), NOW + VALIDITY - left)
    assert said == ("it ends at 2030-04-01 00:00 UTC" if renewed else "")


def test_a_name_that_is_missing_is_named() -> None:
    wanted = Names((*NAMES.dns, "new.ns.svc"), NAMES.ip)
    assert problem(issue(NAMES, NOW), names=wanted) == "it does not name new.ns.svc"


def test_fewer_names_than_it_has_are_fine() -> None:
    assert problem(issue(NAMES, NOW), names=Names(("webhook.ns.svc",))) == ""


def test_parts_of_different_pairs_do_not_fit() -> None:
    one, two = issue(NAMES, NOW), issue(NAMES, NOW)
    assert problem(replace(one, key=two.key)) == "its key belongs to another certificate"
    assert problem(replace(one, authorities=two.authorities)).startswith("it is not a whole pair")


@pytest.mark.parametrize("part", ["key", "certificate", "authorities"])
@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_part_that_is_missing_or_garbled_is_a_flaw(part: str, content: bytes) -> None:
    broken = replace(issue(NAMES, NOW), **{part: content})
    assert problem(broken).startswith("it is not a whole pair")


def test_a_pair_whose_keys_are_of_another_kind_is_replaced() -> None:
    pair = foreign(rsa.generate_private_key(65537, 2048))
    assert problem(pair) == "its key is of another kind"
    mixed = replace(pair, key=issue(NAMES, NOW).key)
    assert problem(mixed) == "its key belongs to another certificate"


def test_a_key_on_a_curve_that_nobody_supports_is_a_flaw() -> None:
    pair = issue(NAMES, NOW)
    prime256v1, prime239v3 = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030106")
    der = b64decode(b"".join(pair.key.splitlines()[1:-1])).replace(prime256v1, prime239v3)
    pem = b"-----BEGIN PRIVATE KEY-----\n" + encodebytes(der) + b"-----END PRIVATE KEY-----\n"
    assert problem(replace(pair, key=pem)).startswith("it is not a whole pair: Curve")


def foreign(key: rsa.RSAPrivateKey) -> Pair:
    """A self-signed pair as other programs make them."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + VALIDITY)
        .add_extension(NAMES.extension(), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(pem, certificate, certificate)


def test_an_empty_secret_holds_none_yet() -> None:
    assert problem(Pair(b"", b"", b"")) == "there is none yet"


def test_the_authorities_of_earlier_pairs_stay_trusted_while_they_are_valid() -> None:
    bundle, firsts = b"", []
    for week in range(5):
        pair = issue(NAMES, NOW + timedelta(weeks=week), old_authorities=bundle)
        bundle = pair.authorities
        firsts.append(x509.load_pem_x509_certificates(bundle)[0].serial_number)
    kept = [each.serial_number for each in x509.load_pem_x509_certificates(bundle)]
    assert kept == firsts[::-1][:AUTHORITIES_KEPT]
    later = issue(NAMES, NOW + timedelta(days=200), old_authorities=bundle)
    assert len(x509.load_pem_x509_certificates(later.authorities)) == 1


def test_garbled_old_authorities_are_let_go() -> None:
    pair = issue(NAMES, NOW, old_authorities=b"garbage")
    assert len(x509.load_pem_x509_certificates(pair.authorities)) == 1
