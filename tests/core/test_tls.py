"""TLS: who is trusted, what is refused and how that is said, and that the bundle is read once."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest
import requests
import trustme
import urllib3

from selfdb.core import http as http_module
from selfdb.core.http import Verify, tls_context
from selfdb.core.pool import Pool
from selfdb.core.transport import Transport
from selfdb.exceptions import APIConnectionError, InvalidRequestError
from tests.conftest import Tls, unavailable
from tests.core.calls import GET, POST, SkippingClock, reveals_nothing
from tests.core.kit import in_threads
from tests.servers.replies import ReplyServer
from tests.servers.scripted import Peer, ScriptedServer, close, read, reply, send


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    """An authority that signed nothing here."""
    path = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return str(path)


def answering(replies: Callable[..., ReplyServer], context: Any) -> ReplyServer:
    return replies(lambda request: (200, {}, {}), tls=context)


@pytest.fixture
def session(theirs: bool) -> Any:
    with requests.Session() as made:
        yield made if theirs else None


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("environment", ["right", "wrong"])
@pytest.mark.parametrize("explicit", ["right", "wrong", None])
def test_what_is_said_beats_the_environment(
    explicit: Optional[str],
    environment: str,
    variable: str,
    session: Optional[requests.Session],
    tls: Tls,
    stranger: str,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundles = {"right": tls.ca, "wrong": stranger, None: None}
    monkeypatch.setenv(variable, bundles[environment] or "")
    transport = connect(answering(replies, tls.server), verify=bundles[explicit], session=session)
    if (explicit or environment) == "right":
        assert transport.exchange(GET).status_code == 200
    else:
        with pytest.raises(APIConnectionError, match="was not accepted"):
            transport.exchange(GET)


@pytest.mark.parametrize("kind", ["path", "folder"])
def test_a_bundle_may_be_a_path_or_a_folder(
    kind: str, tls: Tls, tmp_path: Path, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    verify: Any = Path(tls.ca)
    if kind == "folder":
        text = Path(tls.ca).read_text()
        names = [f"{number:08x}.0" for number in subject_hashes(tls.ca)]
        for name in names:
            (tmp_path / name).write_text(text)
        verify = tmp_path
    assert connect(answering(replies, tls.server), verify=verify).exchange(GET).status_code == 200


def subject_hashes(path: str) -> List[int]:
    """The name under which OpenSSL looks for an authority in a folder."""
    if shutil.which("openssl") is None:
        unavailable("the program openssl, which names the files of such a folder")
    shown = subprocess.run(["openssl", "x509", "-subject_hash", "-noout", "-in", path], capture_output=True, check=True)
    return [int(shown.stdout, 16)]


def test_true_beats_the_environment(
    session: Optional[requests.Session],
    tls: Tls,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", tls.ca)
    with pytest.raises(APIConnectionError, match="was not accepted"):
        connect(answering(replies, tls.server), verify=True, session=session).exchange(GET)


def test_false_works_and_warns(
    session: Optional[requests.Session],
    tls: Tls,
    stranger: str,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", stranger)
    server = answering(replies, tls.new_server("elsewhere.example"))
    with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
        assert connect(server, verify=False, session=session).exchange(GET).status_code == 200


def test_what_their_session_trusts_is_trusted(
    tls: Tls, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    server = answering(replies, tls.server)
    with requests.Session() as theirs:
        theirs.verify = tls.ca
        assert connect(server, session=theirs).exchange(GET).status_code == 200
        assert theirs.verify == tls.ca


# Refused certificates


def self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def expired(tls_folder: Path) -> Any:
    authority = trustme.CA()
    path = tls_folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_before=past, not_after=past + datetime.timedelta(days=1)).configure_cert(
        context
    )
    return context, str(path)


@pytest.mark.parametrize("what", ["stranger", "expired", "wrong host"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_c096_a_certificate_that_is_not_accepted(
    method: str,
    what: str,
    session: Optional[requests.Session],
    tls: Tls,
    tmp_path: Path,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    skipping: SkippingClock,
) -> None:
    said = {"stranger": "unable to get local issuer|self.signed", "expired": "expired", "wrong host": "mismatch"}
    context, ca = self_signed(), tls.ca
    if what == "expired":
        context, ca = expired(tmp_path)
    elif what == "wrong host":
        context = tls.new_server("elsewhere.example")
    server = answering(replies, context)
    with pytest.raises(APIConnectionError, match=f"(?s)was not accepted: .*({said[what]})") as caught:
        connect(server, verify=ca, session=session).exchange(POST if method == "POST" else GET)
    error = caught.value
    way_out = {"expired": "renew it on the server", "wrong host": "set base_url to a name that it is for"}
    assert way_out.get(what, 'verify="/path/to/ca.pem"') in str(error), "it says the way out"
    assert "verify=False" not in str(error)
    assert error.attempts == 1, "it would be refused again"
    assert error.may_have_been_applied is False
    assert skipping.naps == []
    assert error.__cause__ is not None
    assert server.requests == []
    reveals_nothing(error)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_c096_tls_to_a_port_that_speaks_none(
    method: str,
    session: Optional[requests.Session],
    scripted: Callable[..., ScriptedServer],
    connect: Callable[..., Transport],
) -> None:
    server = scripted(default=[send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), lambda peer: peer.wait_for_close()])
    url = server.url.replace("http:", "https:")
    with pytest.raises(APIConnectionError, match=r"does not speak TLS .* set base_url to http://") as caught:
        connect(url, session=session).exchange(POST if method == "POST" else GET)
    assert caught.value.attempts == 1
    assert caught.value.may_have_been_applied is False


def test_a_handshake_that_fails_otherwise(
    tls: Tls, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    context = tls.new_server("127.0.0.1")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384")
    server = answering(replies, context)
    transport = connect(server, verify=tls.ca)
    adapter: Any = transport.pool._session().get_adapter(server.url)
    adapter._shared_context().minimum_version = ssl.TLSVersion.TLSv1_3
    with pytest.raises(APIConnectionError, match=r"no secure connection to https://127.* could be made") as caught:
        transport.exchange(POST)
    assert caught.value.attempts == 1
    assert caught.value.may_have_been_applied is False


def test_a_handshake_that_is_cut_off_is_tried_again(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[lambda peer: peer.read_exactly(5), close()])
    with pytest.raises(APIConnectionError) as caught:
        connect(server.url.replace("http:", "https:")).exchange(POST)
    assert caught.value.attempts == 3
    assert caught.value.may_have_been_applied is False


def test_a_connection_that_breaks_after_the_request_may_have_done_it(
    tls: Tls, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    def garble(peer: Any) -> None:
        """Plain bytes where a record should be: the client's TLS gives up on them."""
        peer.read_request()
        plain = peer._plain()
        plain.settimeout(15)
        plain.sendall(b"\x17\x03\x03\x00\x40" + b"x" * 64)
        peer.wait_for_close()

    server = scripted(default=garble, tls=tls.server)
    transport = connect(server, verify=tls.ca)
    with pytest.raises(APIConnectionError, match="may have been applied") as caught:
        transport.exchange(POST)
    assert caught.value.attempts == 1
    with pytest.raises(APIConnectionError) as caught:
        transport.exchange(GET)
    assert caught.value.attempts == 3


def test_truncation_is_noticed_over_tls_too(
    tls: Tls, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted(default=[read(), reply(200, b"{", length=9), close()], tls=tls.server)
    with pytest.raises(APIConnectionError) as caught:
        connect(server, verify=tls.ca).exchange(GET)
    assert caught.value.attempts == 3


def farewell(peer: Peer) -> None:
    """The end of the stream, said within TLS; the client need not say it too."""
    with contextlib.suppress(OSError):
        peer.sock.unwrap()  # type: ignore[attr-defined]


def test_an_end_that_the_server_did_not_say_itself_is_none(
    tls: Tls, scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    """Anybody in between can end a connection; only the server can say within TLS that it meant to."""
    sent = b"HTTP/1.1 200 OK\r\n\r\n[1]"
    cut = scripted(default=[read(), send(sent), close()], tls=tls.server)
    with pytest.raises(APIConnectionError):
        connect(cut, verify=tls.ca).exchange(GET)
    meant = scripted([read(), send(sent), farewell], tls=tls.server)
    assert connect(meant, verify=tls.ca).exchange(GET).json() == [1]


# One context


def test_the_bundle_is_read_once_for_all_connections(
    tls: Tls, replies: Callable[..., ReplyServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: List[Verify] = []
    real = http_module._make_context

    def counting(verify: Verify) -> ssl.SSLContext:
        made.append(verify)
        return real(verify)

    monkeypatch.setattr(http_module, "_make_context", counting)
    server = replies(lambda request: (200, {"Connection": "close"}, {}), tls=tls.server)
    transport = connect(server, verify=tls.ca)
    assert made == [], "a client that makes no call reads nothing"
    for _ in range(8):
        transport.exchange(GET)
    in_threads(8, lambda: transport.exchange(GET))
    assert server.connections == 16
    assert made == [tls.ca]


def test_threads_that_make_the_context_at_once_go_on_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = http_module.ClientAdapter(False)
    try:
        contexts = in_threads(8, adapter._shared_context)
        assert len(set(map(id, contexts))) == 1
    finally:
        adapter.close()


# Paths that lead nowhere


@pytest.mark.parametrize("verify", ["/nowhere/ca.pem", Path("/nowhere")])
def test_a_bundle_that_is_not_there_is_refused_at_once(verify: Any, session: Optional[requests.Session]) -> None:
    with pytest.raises(InvalidRequestError, match="verify: there is no CA bundle at /nowhere"):
        Pool(session, verify)


@pytest.mark.parametrize("verify", [0, 1, 5.0, b"/etc", [], object()])
def test_what_is_no_path_is_refused_at_once(verify: Any) -> None:
    with pytest.raises(InvalidRequestError, match="verify must be True, False or a path"):
        Pool(None, verify)


@pytest.mark.parametrize("how", ["explicit", "environment"])
def test_a_bundle_that_is_none_is_refused_before_any_connection(
    how: str,
    tmp_path: Path,
    scripted: Callable[..., ScriptedServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    server = scripted()
    if how == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    transport = connect(server.url.replace("http:", "https:"), verify=path if how == "explicit" else None)
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match=f"verify: the CA bundle {path} cannot be read") as caught:
            transport.exchange(POST)
        assert caught.value.attempts == 1
    assert server.connections == 0


def test_no_interpreter_makes_a_cut_wire_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.9 sets this option for every context that it makes."""
    ignore = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)

    def lax() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.options |= ignore
        return context

    monkeypatch.setattr("selfdb.core.http.create_urllib3_context", lax)
    for verify in (None, True, False):
        assert not tls_context(verify).options & ignore
