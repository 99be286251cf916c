"""Self-signed certificates for a webhook server.

Invariant: a pair is complete and fits together, or `flaw` says what is wrong with it. An
authority's key signs once and is forgotten, so nobody can sign with it later.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = timedelta(days=90)
BACKDATED = timedelta(hours=1)  # a client whose clock is behind ours
AUTHORITIES_KEPT = 3
_UNFIT = (
    ValueError,
    TypeError,
    IndexError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a TLS server needs, in PEM.

    Attributes:
        key: the private key.
        certificate: the server's certificate.
        authorities: what clients should trust, the newest first; older ones stay while replicas
            may still serve certificates that they signed.
    """

    key: bytes
    certificate: bytes
    authorities: bytes


@dataclass(frozen=True, slots=True)
class Names:
    """What clients call the server."""

    dns: tuple[str, ...]
    ip: tuple[str, ...] = ()

    def extension(self) -> x509.SubjectAlternativeName:
        """The names as a certificate carries them."""
        return x509.SubjectAlternativeName(
            [*map(x509.DNSName, self.dns), *(x509.IPAddress(ip_address(ip)) for ip in self.ip)]
        )


def issue(names: Names, now: datetime, *, old_authorities: bytes = b"") -> Pair:
    """A new pair from a new authority.

    Args:
        names: what the certificate is good for.
        now: validity runs for 90 days from here.
        old_authorities: PEM; those that are still valid stay trusted.
    """
    authority_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook authority")])
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    authority = (
        _certificate(authority_name, authority_name, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, SHA256())
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _certificate(server_name, authority_name, server_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names.extension(), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, SHA256())
    )
    trusted = [authority, *_still_valid(old_authorities, now)][:AUTHORITIES_KEPT]
    return Pair(
        key=server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate=certificate.public_bytes(Encoding.PEM),
        authorities=b"".join(each.public_bytes(Encoding.PEM) for each in trusted),
    )


def flaw(pair: Pair, names: Names, now: datetime, *, before: timedelta) -> str:
    """Why the pair should be replaced; "" when it should not.

    Args:
        pair: may hold anything.
        names: what the certificate has to be good for.
        now: the time.
        before: how long before its end a certificate is replaced.
    """
    if not (pair.key or pair.certificate):
        return "there is none yet"
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        authority = x509.load_pem_x509_certificates(pair.authorities)[0]
        key = load_pem_private_key(pair.key, password=None)
        certificate.verify_directly_issued_by(authority)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certified = certificate.public_key()
    except _UNFIT as error:
        return f"it is not a whole pair: {str(error).split('.')[0] or type(error).__name__}"
    own = key.public_key()
    if not isinstance(own, ec.EllipticCurvePublicKey):
        return "its key is of another kind"
    if own != certified:
        return "its key belongs to another certificate"
    missing = [str(name.value) for name in names.extension() if name not in list(held)]
    if missing:
        return f"it does not name {', '.join(missing)}"
    ends = min(certificate.not_valid_after_utc, authority.not_valid_after_utc)
    return f"it ends at {ends:%Y-%m-%d %H:%M} UTC" if ends - now < before else ""


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - BACKDATED)
        .not_valid_after(now.astimezone(UTC) + VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _still_valid(authorities: bytes, now: datetime) -> list[x509.Certificate]:
    try:
        held = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return []
    distinct = {each.fingerprint(SHA256()): each for each in held}
    return [each for each in distinct.values() if each.not_valid_after_utc > now]
