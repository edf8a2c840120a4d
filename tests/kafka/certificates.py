"""Certificates for listeners with TLS, made up in a test and good for a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class Authority:
    """Signs certificates of ``localhost``, for servers and clients alike, good for so many ``days``; less than 0: expired."""

    def __init__(self, days: int = 1) -> None:
        self._days = days
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("authority")
        self.certificate = _pem(self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None)))

    def issue(self, name: str) -> tuple[str, str]:
        """A certificate and its key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_named(name), key, x509.SubjectAlternativeName([x509.DNSName("localhost")]))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return _pem(certificate), key.private_bytes(*form).decode()

    def for_broker(self, listener: str) -> dict[str, str]:
        """What gives one of a broker's listeners a certificate, and trust in those that are signed here."""
        certificate, key = self.issue("broker")
        prefix = f"listener.name.{listener.lower()}.ssl."
        return {
            f"{prefix}keystore.type": "PEM",
            f"{prefix}keystore.certificate.chain": certificate,
            f"{prefix}keystore.key": key,
            f"{prefix}truststore.type": "PEM",
            f"{prefix}truststore.certificates": self.certificate,
        }

    def for_client(self, folder: Path, *, own: bool) -> dict[str, str]:
        """kafka-python's settings that trust those signed here, with a certificate of the client's own or without."""
        certificate, key = self.issue("client")
        files = {"ssl_cafile": self.certificate} | ({"ssl_certfile": certificate, "ssl_keyfile": key} if own else {})
        for setting, text in files.items():
            (folder / f"{setting}.pem").write_text(text)
        return {setting: str(folder / f"{setting}.pem") for setting in files}

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=9)).not_valid_after(now + timedelta(days=self._days))
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())
