"""Keys and certificates of a sandbox cluster: one authority for servers and clients alike.

Everything stays in one folder that only its owner can read, and is worth nothing outside it.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=365)


@dataclass(frozen=True)
class Credential:
    """Paths of a PEM certificate and of its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose files lie in `folder`."""

    folder: Path
    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @property
    def credential(self) -> Credential:
        """The authority's own certificate and key."""
        return Credential(self.folder / "ca.crt", self.folder / "ca.key")

    @classmethod
    def open(cls, folder: Path) -> "Authority":
        """Returns the authority kept in `folder`, making it first when there is none."""
        certificate, key = folder / "ca.crt", folder / "ca.key"
        if not certificate.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_authority(Credential(certificate, key))
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key} does not hold an elliptic-curve key; delete {folder}")
        return cls(folder, x509.load_pem_x509_certificate(certificate.read_bytes()), private)

    def issue(
        self,
        common_name: str,
        *,
        organizations: Iterable[str] = (),
        hosts: Iterable[str] = (),
        addresses: Iterable[str] = (),
        file_name: str = "",
    ) -> Credential:
        """Returns a certificate for a user (name and groups) or a server (hosts and addresses).

        The files are called after `file_name`, by default after the common name, and are kept:
        a second call for the same name returns the first call's files.
        """
        stem = file_name or common_name.replace(":", "-")
        credential = Credential(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        if credential.certificate.exists():
            return credential
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = _builder(_name(common_name, organizations), key).issuer_name(
            self._certificate.subject
        )
        builder = builder.add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        _write_key(credential.key, key)
        _write_certificate(credential.certificate, builder.sign(self._key, hashes.SHA256()))
        return credential

    def signing_key(self, name: str) -> tuple[Path, Path]:
        """Returns the paths of a bare private key and its public key, for signing tokens."""
        private, public = self.folder / f"{name}.key", self.folder / f"{name}.pub"
        if not public.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            _write_key(private, key)
            public.write_bytes(
                key.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )
        return private, public


def _make_authority(credential: Credential) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("sandbox-ca", ())
    certificate = (
        _builder(name, key)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(credential.key, key)
    _write_certificate(credential.certificate, certificate)


def _builder(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _name(common_name: str, organizations: Iterable[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
