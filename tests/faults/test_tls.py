"""G16: who is not the server does not get a byte of ours, over HTTP and over WebSockets; what it is told says why."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
import requests
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from urllib3.exceptions import InsecureRequestWarning

from selfdb import SelfDB
from selfdb.exceptions import APIConnectionError
from tests import soak
from tests.core.calls import ACCESS, API_KEY, PASSWORD, reveals_nothing
from tests.servers.scripted import Peer, ScriptedServer

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority, and the contexts of servers whose certificates it made or did not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.path = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.path)

    def issued(self, *names: str, **options: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names, **options).configure_cert(context)
        return context

    def by_another(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        return context

    def by_itself(self, *, alternative: bool) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(7).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
        if alternative:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        made = builder.sign(key, hashes.SHA256())
        path = self.folder / f"self{alternative}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + made.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def old(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = self.issued("127.0.0.1")
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


SERVERS: Dict[str, Callable[[Authority], ssl.SSLContext]] = {
    "expired": lambda of: of.issued("127.0.0.1", not_before=NOW - 9 * DAY, not_after=NOW - DAY),
    "not valid yet": lambda of: of.issued("127.0.0.1", not_before=NOW + DAY, not_after=NOW + 9 * DAY),
    "another host": lambda of: of.issued("elsewhere.example"),
    "a name for an address": lambda of: of.issued("localhost"),
    "another address": lambda of: of.issued("127.0.0.2"),
    "a common name alone": lambda of: of.issued(common_name="127.0.0.1"),
    "another authority": lambda of: of.by_another(),
    "itself": lambda of: of.by_itself(alternative=True),
    "itself, a common name alone": lambda of: of.by_itself(alternative=False),
    "TLS 1.0": lambda of: of.old(ssl.TLSVersion.TLSv1),
    "TLS 1.1": lambda of: of.old(ssl.TLSVersion.TLSv1_1),
}

CALLS: Dict[str, Callable[[SelfDB], Any]] = {
    "GET": lambda db: db.auth.me(),
    "POST": lambda db: db.tables.data.insert("t", {"a": 1}),
    "login": lambda db: db.auth.login("a@example.com", PASSWORD),
    "upload": lambda db: db.storage.files.upload("b", "f", iter([b"a"])),
    "WebSocket": lambda db: db.realtime.connect(timeout=5),
}


@pytest.fixture
def session(theirs: bool) -> Iterator[Optional[requests.Session]]:
    with requests.Session() as made:
        yield made if theirs else None


@pytest.fixture
def heard() -> List[bytes]:
    """What servers read after the handshake."""
    return []


@pytest.fixture
def listen(heard: List[bytes]) -> Callable[[Peer], None]:
    def listen(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            heard.append(peer.sock.recv(65536))

    return listen


@pytest.mark.parametrize("what", list(SERVERS))
def test_g16_who_is_not_the_server(
    what: str,
    session: Optional[requests.Session],
    authority: Authority,
    heard: List[bytes],
    listen: Callable[[Peer], None],
) -> None:
    with ScriptedServer(default=listen, tls=SERVERS[what](authority)) as server:
        for name, call in CALLS.items():
            with SelfDB(server.url, API_KEY, verify=authority.path, session=session, timeout=10) as db:
                db.access_token = ACCESS
                before = server.connections
                with pytest.raises(APIConnectionError) as caught:
                    call(db)
                error = caught.value
                reveals_nothing(error)
                assert error.may_have_been_applied is False
                assert server.url in str(error)
                assert server.connections == before + 1, "a certificate does not change by asking again"
                told = "no secure connection" if what.startswith("TLS") else "was not accepted"
                assert told in str(error), name
                hints = ("verify=", "renew it", "the clock", "set base_url to")
                assert what.startswith("TLS") or any(hint in str(error) for hint in hints), error
    assert not any(heard), "not a byte before it is known who answers"
    soak.figure("G16", f"{what}: {len(CALLS)} kinds of calls refused, 0 bytes sent")


@pytest.mark.parametrize("name", list(CALLS))
def test_g16_plain_where_tls_is_meant(name: str, session: Optional[requests.Session]) -> None:
    def plain(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        peer.wait_for_close()

    with ScriptedServer(default=plain) as server, contextlib.ExitStack() as opened:
        url = server.url.replace("http:", "https:")
        db = opened.enter_context(SelfDB(url, API_KEY, session=session, timeout=10))
        db.access_token = ACCESS
        with pytest.raises(APIConnectionError, match="does not speak TLS") as caught:
            CALLS[name](db)
        reveals_nothing(caught.value)
        assert server.connections == 1


def test_g16_tls_where_plain_is_meant(authority: Authority, heard: List[bytes]) -> None:
    with ScriptedServer(default=lambda peer: None, tls=authority.issued("127.0.0.1")) as server:
        for call in CALLS.values():
            with SelfDB(server.url.replace("https:", "http:"), API_KEY, timeout=10, max_retries=0) as db:
                db.access_token = ACCESS
                with pytest.raises(APIConnectionError) as caught:
                    call(db)
                reveals_nothing(caught.value)


def test_g16_no_verification_without_a_warning(authority: Authority) -> None:
    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.reply(200, b'{"id": "1", "email": "e"}')

    with ScriptedServer(default=answer, tls=SERVERS["expired"](authority)) as server:
        with pytest.warns(InsecureRequestWarning, match="nobody knows who answers"):
            db = SelfDB(server.url, API_KEY, verify=False)
        with contextlib.closing(db):
            db.access_token = ACCESS
            with pytest.warns(InsecureRequestWarning):
                db.auth.me()
        with requests.Session() as theirs:
            theirs.verify = False
            with pytest.warns(InsecureRequestWarning, match="nobody knows who answers"):
                SelfDB(server.url, API_KEY, session=theirs).close()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_g16_an_authority_of_the_environment(
    variable: str, session: Optional[requests.Session], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.reply(200, b'{"id": "1", "email": "e"}')

    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, authority.path)
    with ScriptedServer(default=answer, tls=authority.issued("127.0.0.1")) as server:
        with SelfDB(server.url, API_KEY, session=session) as db:
            db.access_token = ACCESS
            assert db.auth.me().id == "1"
        strict = SelfDB(server.url, API_KEY, session=session, verify=True, max_retries=0)
        with strict, pytest.raises(APIConnectionError, match="was not accepted"):
            strict.status()
