"""A test certificate authority and a signer, on no trust list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clipkit.marks.credentials import Certificate


def write_certificate(folder: Path, key_type: str = "EC") -> Certificate:
    """Write a chain of two certificates and the signer's key, of type "EC", "RSA" or "Ed25519"."""
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(common: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests")]
        )

    def usage(*, signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=not signs,
            crl_sign=not signs,
            encipher_only=False,
            decipher_only=False,
        )

    authority = ec.generate_private_key(ec.SECP256R1())
    key = {
        "EC": lambda: ec.generate_private_key(ec.SECP256R1()),
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }[key_type]()
    today = datetime.now(UTC)

    def certificate(subject: str, public_key, *, signs: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("authority"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - timedelta(days=1))
            .not_valid_after(today + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=not signs, path_length=None), critical=True)
            .add_extension(usage(signs=signs), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        )
        if signs:
            purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=False)
        return builder.sign(authority, hashes.SHA256())

    pem = serialization.Encoding.PEM
    chain = [
        certificate("signer", key.public_key(), signs=True),
        certificate("authority", authority.public_key(), signs=False),
    ]
    paths = Certificate(folder / "chain.pem", folder / "key.pem")
    paths.chain.write_bytes(b"".join(c.public_bytes(pem) for c in chain))
    paths.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())  # type: ignore[attr-defined]
    )
    return paths
