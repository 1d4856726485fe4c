"""A server of large bodies that costs next to nothing: it takes them into one buffer, and sends them from one file.

Run as a program it prints its port, and ends with its standard input. POST and PUT are answered as an upload is, when
the body has come; GET sends as many bytes as the last part of the path says.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from typing import Dict, Tuple

BLOCK = 1024 * 1024
STORED = {
    "success": True,
    "bucket": "bench",
    "path": "big.bin",
    "size": 1,
    "file_id": "4b1c1a52-8a4e-4b36-9b6f-1f8b8b5f3a55",
    "upload_time": 0.1,
}


def head_of(sock: socket.socket, data: bytes) -> Tuple[str, str, Dict[str, str], bytes]:
    """Method, path, header fields of the next request, and what came behind them."""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return method, path, fields, rest


def take(sock: socket.socket, fields: Dict[str, str], rest: bytes, buffer: bytearray) -> None:
    """The body of a request, and its answer."""
    if fields.get("expect"):
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    left = int(fields["content-length"]) - len(rest)  # a body without a length is an error here
    view = memoryview(buffer)
    while left:
        count = sock.recv_into(view[: min(left, BLOCK)])
        if not count:
            raise EOFError
        left -= count
    body = json.dumps(STORED).encode()
    head = f"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)


def give(sock: socket.socket, size: int, block: int) -> None:
    """A body of ``size`` bytes, the same block again and again."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    sock.sendall(f'{head}ETag: "bench"\r\nContent-Length: {size}\r\n\r\n'.encode())
    while size:
        size -= os.sendfile(sock.fileno(), block, 0, min(size, BLOCK))


def connection(sock: socket.socket, block: int) -> None:
    """Serve one connection."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer, rest = bytearray(BLOCK), b""
    try:
        while True:
            method, path, fields, rest = head_of(sock, rest)
            if method in ("POST", "PUT"):
                take(sock, fields, rest, buffer)
                rest = b""
            else:
                give(sock, int(path.rpartition("/")[2]), block)
    except (EOFError, OSError):
        pass
    finally:
        sock.close()


def accept(listener: socket.socket, block: int) -> None:
    """A thread for every connection."""
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=connection, args=(sock, block), daemon=True).start()


if __name__ == "__main__":
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(BLOCK))
        file.flush()
        threading.Thread(target=accept, args=(server, file.fileno()), daemon=True).start()
        print(server.getsockname()[1], flush=True)
        sys.stdin.read()
