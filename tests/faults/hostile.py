"""What a hostile or broken server may answer: heads, framings and bodies, as they go over the wire."""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Dict, Iterator, List, Tuple

OK = b"HTTP/1.1 200 OK\r\n"

HEADS: Dict[str, bytes] = {
    "nothing": b"",
    "half a status": b"HTTP/1.1 2",
    "not HTTP": b"SSH-2.0-OpenSSH_9.7\r\n",
    "binary": bytes(range(256)) * 4,
    "no version": b"200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "another version": b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d\x00\x04\x00\x10\x00\x00",
    "no status": b"HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "a status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\n{}",
    "a negative status": b"HTTP/1.1 -200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a status of 0": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a status of 999": b"HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\n{}",
    "a status of many digits": b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\n\r\n{}",
    "a change of protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "a reason of NUL": b"HTTP/1.1 200 \0\r\nContent-Length: 2\r\n\r\n{}",
    "8 bit everywhere": b"HTTP/1.1 200 \xff\xfe\r\nX-\xff: \xff\r\nContent-Length: 2\r\n\r\n{}",
    "a header without a colon": OK + b"garbage\r\nContent-Length: 2\r\n\r\n{}",
    "a header of CR": OK + b"X: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\n{}",
    "101 headers": OK + b"X: 1\r\n" * 101 + b"Content-Length: 2\r\n\r\n{}",
    "a long header": OK + b"X: " + b"a" * 70000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "a length below 0": OK + b"Content-Length: -1\r\n\r\n{}",
    "a length of many digits": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "a length beyond the body": OK + b"Content-Length: 99\r\n\r\n{}",
    "lengths that differ": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk below 0": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
    "a chunk without bound": OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a chunk of words": OK + b"Transfer-Encoding: chunked\r\n\r\nlots\r\n{}\r\n0\r\n\r\n",
    "chunks cut off": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "a coding of its own": OK + b"Content-Encoding: rot13\r\nContent-Length: 2\r\n\r\n{}",
    "garbage for gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "half of gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00",
    "garbage for deflate": OK + b"Content-Encoding: deflate\r\nContent-Length: 2\r\n\r\n{}",
}

DEEP = 100_000

BODIES: Dict[str, bytes] = {
    "empty": b"",
    "blank": b" \r\n",
    "HTML": b"<!doctype html><title>It works</title>",
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "a number below 0": b"-1",
    "NaN": b"NaN",
    "infinity": b"-Infinity",
    "a number beyond floats": b"1e400",
    "a number of many digits": b"9" * 100_000,
    "a text": b'"text"',
    "half a character": b'"\\ud800"',
    "half of JSON": b'{"id": "1", "na',
    "a list": b"[]",
    "lists of lists": b"[[[]]]",
    "a list of null": b"[null]",
    "a list of everything": b'[1, "a", null, {}, [], true]',
    "an object": b"{}",
    "keys twice": b'{"id": "1", "id": 2, "name": "a", "name": null}',
    "wrapped in nothing": b'{"data": null, "total": null, "user": null, "bucket": null, "file": null}',
    "wrapped in itself": b'{"data": {"data": {"data": []}}, "total": {"total": 1}}',
    "a row of nothing": b'{"status": [], "data": {}}',
    "a row in a row": b'{"status": {"row_inserted": 1}, "data": {"id": 1}}',
    "half characters": b'{"message": "\\ud800", "deleted_id": "\\udfff", "id": "\\ud800", "detail": "\\udc00"}',
    "half a key": b'{"\\ud800": {"type": "text"}, "schema": {"\\ud800": {"\\ud800": "\\ud800"}}}',
    "NUL": b'{"id": "\\u0000", "message": "\\u0000", "name": "\\u0000"}',
    "bad UTF-8": b'{"id": "\xff\xfe\xc0\x80", "name": "\xed\xa0\x80"}',
    "UTF-16": '{"id": "1"}'.encode("utf-16"),
    "UTF-32": '[{"id": "1"}]'.encode("utf-32"),
    "UTF-7": "+AHsAIg-id+ACI: 1+AH0-".encode("ascii"),
    "a mark before it": b'\xef\xbb\xbf{"id": "1"}',
    "two values": b"{} {}",
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep and whole": b"[" * DEEP + b"]" * DEEP,
    "deep within": b'{"message": ' + b"[" * 900 + b"]" * 900 + b', "id": ' + b"[" * 900 + b"]" * 900 + b"}",
    "dates out of range": b'{"id": "1", "name": "a", "email": "e", "created_at": "9999-99-99T99:99:99Z"}',
    "a date of many digits": b'{"id": "1", "name": "a", "email": "e", "created_at": ' + b"9" * 400 + b"}",
    "tokens of lines": b'{"access_token": "a\\r\\nX-Evil: 1", "refresh_token": "b"}',
    "tokens of no Latin": b'{"access_token": "\\u20ac", "refresh_token": "b"}',
    "tokens of nothing": b'{"access_token": "", "refresh_token": ""}',
    "tokens of half a character": b'{"access_token": "\\ud800", "refresh_token": "\\ud800"}',
    "control characters": b'{"detail": "\\u001b[2J\\r\\nINFO forged", "message": "\\u001b]0;x\\u0007"}',
    "findings of everything": b'{"detail": [1, [], {"loc": [[]], "msg": {}}, {"loc": {}, "msg": [[]]}, "\\ud800"]}',
    "deep findings": b'{"detail": [' + b"[" * 900 + b"]" * 900 + b"]}",
}

EVIL = [
    "null", "true", "0", "-1", "1.5", "1e400", "NaN", "Infinity", "9" * 400, "9" * 5000, '""', '"\\ud800"', '"\\u0000"',
    '"9999-99-99"', '"-1"', "[]", "{}", "[null]", "[[[]]]", '{"a": {"a": {}}}', '{"\\ud800": 1}',
    "[" * 900 + "]" * 900, "[" * 5000, '"' + "x" * 70000 + '"', '{"columns": [{"name": []}, {"name": "\\ud800"}]}',
]  # fmt: skip
"""JSON to stand where something else was promised."""


def whole(body: bytes, kind: str = "application/json", status: int = 200) -> bytes:
    """An answer that is sound but for its body."""
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def _places(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    yield path
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from _places(below, (*path, key))


_MARK = "\x02here\x02"


def mutations(reply: Any, count: int, source: random.Random) -> List[bytes]:
    """``reply`` with something else at a place of it, or without the place: ``count`` of the many, or all."""
    made: List[bytes] = []
    for path in _places(reply):
        changed = copy.deepcopy({"root": reply})
        holder: Any = changed
        for key in ("root", *path)[:-1]:
            holder = holder[key]
        last = ("root", *path)[-1]
        holder[last] = _MARK
        text = json.dumps(changed["root"])
        made += [text.replace(json.dumps(_MARK), evil).encode() for evil in EVIL]
        if path and isinstance(holder, dict):
            del holder[last]
            made.append(json.dumps(changed["root"]).encode())
    return made if len(made) <= count else source.sample(made, count)
