"""A SAML identity provider over loopback HTTP: pysaml2's own; it signs with the xmlsec library instead of a binary."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.saml import NAMEID_FORMAT_PERSISTENT, NAMEID_FORMAT_TRANSIENT, NameID
from saml2.server import Server
from saml2.sigver import CryptoBackend
from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA1, SIG_RSA_SHA256

AUTHN = {"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "authn_auth": "test"}


class _Signer(CryptoBackend):  # type: ignore[misc]
    """What pysaml2 asks the xmlsec1 binary for, done in this process."""

    version = "1.3.0"

    def sign_statement(self, statement: Any, node_name: str, key_file: str, node_id: str) -> str:
        root = etree.fromstring(statement if isinstance(statement, bytes) else str(statement).encode())
        target = next(node for node in root.iter() if node.get("ID") == node_id)
        xmlsec.tree.add_ids(root, ["ID"])
        signature = next(node for node in target if etree.QName(node).localname == "Signature")
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_file(key_file, xmlsec.constants.KeyDataFormatPem)
        context.sign(signature)
        return etree.tostring(root).decode()


def _keys(folder: Path, name: str) -> tuple[str, str]:
    """Paths of a key and its self-signed certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.key", folder / f"{name}.pem"
    paths[0].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    paths[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(paths[0]), str(paths[1])


class IdentityProviderServer:
    """`users`: name → attributes. `options` change how the next answers are made."""

    def __init__(self, users: Mapping[str, dict[str, Any]], folder: Path) -> None:
        self.users = users
        self.url = ""
        self.options: dict[str, Any] = {}
        self._folder = folder
        self._pair = _keys(folder, "idp")
        self._foreign = _keys(folder, "foreign")
        self._server: Any = None

    def start(self, url: str, sp_metadata: str) -> None:
        """Be the provider at `url` for the service with this metadata."""
        self.url = url
        key, certificate = self._pair
        # pysaml2 wants the binary to exist and asks it for its algorithms; `_Signer` does the work.
        binary = self._folder / "xmlsec1"
        binary.write_text("#!/bin/sh\nprintf 'Registered:\\n\"rsa-sha256\"\\n'\n")
        binary.chmod(0o755)
        config = IdPConfig().load(
            {
                "entityid": f"{url}/metadata",
                "xmlsec_binary": str(binary),
                "key_file": key,
                "cert_file": certificate,
                "metadata": {"inline": [sp_metadata]},
                "service": {
                    "idp": {
                        "endpoints": {"single_sign_on_service": [(f"{url}/sso", BINDING_HTTP_REDIRECT)]},
                        "policy": {"default": {"name_form": "urn:oasis:names:tc:SAML:2.0:attrname-format:basic"}},
                    }
                },
            }
        )
        self._server = Server(config=config)
        self._server.sec.crypto = _Signer()

    def metadata(self) -> str:
        return str(entity_descriptor(self._server.config))

    def answer(self, request: str, user: str) -> tuple[str, str]:
        """(where the browser posts to, the encoded response) for a SAMLRequest and who signed in."""
        asked = self._server.parse_authn_request(request, BINDING_HTTP_REDIRECT).message
        options = {"sign_assertion": True, "sign_alg": SIG_RSA_SHA256, **self.options}
        kind = NAMEID_FORMAT_TRANSIENT if options.pop("transient", False) else NAMEID_FORMAT_PERSISTENT
        forged, stale = options.pop("foreign_key", False), options.pop("audience", None)
        self._server.sec.key_file = self._foreign[0] if forged else self._pair[0]
        destination = asked.assertion_consumer_service_url
        response = self._server.create_authn_response(
            self.users[user],
            in_response_to=asked.id,
            destination=destination,
            sp_entity_id=stale or asked.issuer.text,
            name_id=NameID(format=kind, text=user if kind == NAMEID_FORMAT_PERSISTENT else f"t-{asked.id}"),
            authn=AUTHN,
            digest_alg=DIGEST_SHA256,
            **options,
        )
        packed = self._server.apply_binding(BINDING_HTTP_POST, str(response), destination, "", response=True)
        form = packed["data"]
        text = form if isinstance(form, str) else "".join(form)
        return destination, html.unescape(text.split('name="SAMLResponse" value="')[1].split('"')[0])


@contextmanager
def running(users: Mapping[str, dict[str, Any]], folder: Path, sp_metadata: str) -> Iterator[IdentityProviderServer]:
    """The provider, answering at /metadata."""
    provider = IdentityProviderServer(users, folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(provider.metadata().encode())

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.start(f"http://localhost:{server.server_port}", sp_metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


def request_of(location: str) -> str:
    """The SAMLRequest that a redirect carries."""
    return parse_qs(urlsplit(location).query)["SAMLRequest"][0]


__all__ = ["SIG_RSA_SHA1", "IdentityProviderServer", "request_of", "running"]
