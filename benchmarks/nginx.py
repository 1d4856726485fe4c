"""A server that costs next to nothing: nginx with fixed answers over HTTP and TLS, or our own where it is missing."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, NamedTuple

from .answers import READS, TABLE, WRITES
from .measure import HERE, ask, running

__all__ = ["TABLE", "Server", "static_server"]


class Server(NamedTuple):
    """Where it listens, and the authority of its certificate."""

    url: str
    secure: str
    closing: str
    ca: str


CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; open_file_cache max=100; types {{ }}
  default_type application/json; keepalive_requests 1000000000; server_tokens off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port} backlog=4096; {locations} }}
  server {{ listen 127.0.0.1:{secure} ssl backlog=4096; {tls} keepalive_timeout 0; {locations} }}
  server {{ listen 127.0.0.1:{closing} backlog=4096; keepalive_timeout 0; {locations} }}
}}
"""


def _ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(probe.getsockname()[1])
        return found


def _locations(folder: Path) -> str:
    """An answer is a file, for nginx takes no long text; a write's is short."""
    parts = []
    for number, path in enumerate({**READS, **WRITES}):
        file = folder / f"{number}.json"
        file.write_text(json.dumps(READS.get(path)), encoding="utf-8")
        written = ""
        if path in WRITES:
            status, answer = WRITES[path]
            written = f"if ($request_method = POST) {{ return {status} '{json.dumps(answer)}'; }}"
        parts.append(f"location = {path} {{ {written} root {folder}; rewrite ^ /{file.name} break; }}")
    return "\n    ".join(parts)


@contextlib.contextmanager
def static_server() -> Iterator[Server]:
    """nginx with `READS` and `WRITES`; the benchmark's own server, without TLS, where nginx is missing."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        with running([sys.executable, str(HERE / "answers.py")]) as process:
            yield Server(f"http://127.0.0.1:{ask(process, '')}", "", "", "")
        return
    import requests
    import trustme

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        authority = trustme.CA()
        # As on a machine that trusts an authority of its own beside the usual ones.
        shutil.copyfile(requests.certs.where(), folder / "ca.pem")
        authority.cert_pem.write_to_path(str(folder / "ca.pem"), append=True)
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
        port, secure, closing = _ports(3)
        tls = f"ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;"
        configuration = CONFIGURATION.format(
            folder=folder, port=port, secure=secure, closing=closing, tls=tls, locations=_locations(folder)
        )
        (folder / "nginx.conf").write_text(configuration)
        process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.02)
            yield Server(
                f"http://127.0.0.1:{port}",
                f"https://127.0.0.1:{secure}",
                f"http://127.0.0.1:{closing}",
                str(folder / "ca.pem"),
            )
        finally:
            process.terminate()
            process.wait(10)
