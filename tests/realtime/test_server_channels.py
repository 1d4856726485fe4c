"""Channels of the embedded server: joining, events, leaving, and the answers to everything else."""

from __future__ import annotations

import contextlib
from typing import Any, Callable

import pytest

from selfdb.realtime.frames import Frame, encode_binary
from tests.realtime.raw import Raw, Table
from tests.support import Http, unique

Connect = Callable[..., Raw]


def error(join_ref: Any, ref: str, topic: str, reason: str) -> Any:
    return [join_ref, ref, topic, "phx_reply", {"status": "error", "response": {"reason": reason}}]


def ok(join_ref: Any, ref: str, topic: str) -> Any:
    return [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": {}}]


def test_c104_each_change_is_one_event_with_new_and_old(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    first = table.insert(1, "before the join")
    raw = connect(server, http.admin).joined(table.topic)
    row = table.insert(2, 'ü "quoted"\n🙂')
    changed = table.update(row["id"], n=3)
    table.delete(row["id"])
    table.delete(first["id"])
    assert changed == {**row, "n": 3, "updated_at": changed["updated_at"]}
    assert raw.receive() == table.event("INSERT", row, None)
    assert raw.receive() == table.event("UPDATE", changed, row)
    assert raw.receive() == table.event("DELETE", None, changed)
    assert raw.receive() == table.event("DELETE", None, first)
    raw.beat()


def test_c105_without_realtime_nothing_and_from_its_enabling_on_everything(
    server: Any, http: Http, connect: Connect
) -> None:
    table = Table(http, http.admin, realtime=False)
    raw = connect(server, http.admin).joined(table.topic)
    table.insert(1)
    table.change(realtime_enabled=True)
    row = table.insert(2)
    assert raw.receive() == table.event("INSERT", row, None)
    table.change(realtime_enabled=False)
    table.delete(row["id"])
    table.change(realtime_enabled=True)
    row = table.insert(3)
    assert raw.receive() == table.event("INSERT", row, None)


def test_c109_who_may_join(server: Any, http: Http, connect: Connect) -> None:
    _, owner = http.new_user()
    _, stranger = http.new_user()
    table, open_table = Table(http, owner, public=False), Table(http, owner)
    raw = connect(server, stranger)
    assert raw.join(table.topic) == {"status": "error", "response": {"reason": "unauthorized"}}
    missing = f"table:{unique('x')}"
    for topic in (missing, "table:", "table:Ä", "table:a\0b", "table:" + "x" * 64):
        assert raw.join(topic) == {"status": "error", "response": {"reason": "table not found"}}
    for topic in ("room:1", "phoenix", "", "tables:x"):
        assert raw.ask("9", "9", topic, "phx_join") == error(None, "9", topic, "unmatched topic")
    raw.joined(open_table.topic)
    private = [connect(server, token).joined(table.topic) for token in (owner, http.admin)]
    row = table.insert(1)
    for each in private:
        assert each.receive() == table.event("INSERT", row, None)
    raw.beat()


def test_c114_heartbeats_are_answered(server: Any, http: Http, connect: Connect) -> None:
    raw = connect(server, http.admin)
    raw.beat("1")
    assert raw.ask("1", "2", "phoenix", "heartbeat", {"x": 1}) == ok(None, "2", "phoenix")
    assert raw.ask(None, "3", "phoenix", "other") == error(None, "3", "phoenix", "unmatched topic")


def test_c116_a_leave_is_answered_and_then_closed(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    raw, witness = connect(server, http.admin).joined(table.topic), connect(server, http.admin).joined(table.topic)
    assert raw.ask("1", "2", table.topic, "phx_leave") == ok("1", "2", table.topic)
    assert raw.receive() == ["1", "1", table.topic, "phx_close", {}]
    row = table.insert(1)
    assert witness.receive() == table.event("INSERT", row, None)
    assert raw.ask("1", "3", table.topic, "phx_leave") == ok("1", "3", table.topic)
    raw.joined(table.topic, "4")
    row = table.insert(2)
    assert raw.receive() == table.event("INSERT", row, None)


def test_c117_a_second_join_is_answered_before_the_first_is_closed(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    raw = connect(server, http.admin).joined(table.topic).joined(table.topic, "5")
    assert raw.receive() == ["1", "1", table.topic, "phx_close", {}]
    row = table.insert(1)
    assert raw.receive() == table.event("INSERT", row, None)
    # What is meant for the closed one is passed over in silence.
    raw.send("1", "6", table.topic, "phx_leave")
    raw.send("1", "7", table.topic, "anything")
    raw.beat()
    row = table.insert(2)
    assert raw.receive() == table.event("INSERT", row, None)


def test_c117_a_second_join_that_is_refused_ends_the_first(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    raw = connect(server, http.admin).joined(table.topic)
    table.drop()
    raw.send("2", "2", table.topic, "phx_join")
    frames = [raw.receive(), raw.receive()]
    assert ["1", "1", table.topic, "phx_close", {}] in frames
    assert error("2", "2", table.topic, "table not found") in frames
    raw.beat()


def test_what_a_client_says_is_never_passed_on(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    raw, witness = connect(server, http.admin).joined(table.topic), connect(server, http.admin).joined(table.topic)
    for event in ("INSERT", "shout", "phx_close", "phx_error", "phx_reply", "heartbeat"):
        assert raw.ask("1", "2", table.topic, event, {"new": 1}) == error("1", "2", table.topic, "unknown event")
    assert raw.ask(None, "3", table.topic, "shout") == error(None, "3", table.topic, "unknown event")
    assert raw.ask("1", "4", "table:other", "shout") == error(None, "4", "table:other", "unmatched topic")
    row = table.insert(1)
    assert witness.receive() == table.event("INSERT", row, None)


def test_c118_binary_pushes_are_understood_and_nonsense_is_passed_over(
    server: Any, http: Http, connect: Connect
) -> None:
    table = Table(http, http.admin)
    raw = connect(server, http.admin)
    raw.binary(encode_binary(Frame("1", "1", table.topic, "phx_join", b"")))
    assert raw.receive()[4]["status"] == "ok"
    raw.binary(encode_binary(Frame("1", "2", table.topic, "shout", b"\0\xff")))
    assert raw.receive() == error("1", "2", table.topic, "unknown event")
    nonsense = [
        b"",
        b"\0",
        b"\x01\x01\x01\x01\x01abcd",
        b"\x02\x01\x01ab",
        b"\x07",
        b"\0\xff\0\0\0x",
        b"\0\1\1\1\1\xff\xff\xff\xff",
    ]
    for data in nonsense:
        raw.binary(data)
    for text in (
        "",
        "{}",
        "[]",
        "null",
        "[1,2,3,4,5]",
        '["1","1",null,"phx_join",{}]',
        "[[[",
        '[null,null,"t"]',
        "9" * 5000,
    ):
        raw.text(text)
    raw.text('["1","2","\\ud800","phx_join",{}]')
    raw.text("[" * 100_000)
    raw.text('["1",1.5,"x","y",{}]')
    raw.beat()
    row = table.insert(1)
    assert raw.receive() == table.event("INSERT", row, None)


def test_numbers_as_refs_and_further_elements_are_taken(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    raw = connect(server, http.admin)
    raw.text(f'[1,1,"{table.topic}","phx_join",null,"more"]')
    assert raw.receive()[:3] == ["1", "1", table.topic]
    raw.text(f'[null,null,"{table.topic}","phx_leave",{{}}]')
    assert raw.receive() == [None, None, table.topic, "phx_reply", {"status": "ok", "response": {}}]
    assert raw.receive() == ["1", "1", table.topic, "phx_close", {}]


def test_a_frame_that_is_too_large_ends_the_socket(server: Any, http: Http, connect: Connect) -> None:
    raw = connect(server, http.admin)
    raw.send(None, "1", "phoenix", "heartbeat", {"x": "x" * (1024 * 1024 - 100)})
    assert raw.receive()[1] == "1"
    with contextlib.suppress(OSError):
        raw.send(None, "1", "phoenix", "heartbeat", {"x": "x" * (1024 * 1024)})
    assert raw.ended()[0] == 1009


def test_text_that_is_none_ends_the_socket(server: Any, http: Http, connect: Connect) -> None:
    raw = connect(server, http.admin)
    raw.ws.send(b"[\xff", opcode=1)
    assert raw.ended()[0] == 1007


def test_a_socket_has_at_most_a_hundred_channels(make_server: Callable[..., Any], connect: Connect) -> None:
    server = make_server()
    http = Http(server)
    raw = connect(server, http.admin)
    tables = [Table(http, http.admin, realtime=number == 99) for number in range(101)]
    for number, table in enumerate(tables[:100]):
        raw.joined(table.topic, str(number))
    assert raw.join(tables[100].topic) == {"status": "error", "response": {"reason": "too many channels joined"}}
    raw.joined(tables[0].topic, "again")
    assert raw.receive() == ["0", "0", tables[0].topic, "phx_close", {}]
    row = tables[99].insert(1)
    assert raw.receive() == tables[99].event("INSERT", row, None)


# -- what closes a channel -------------------------------------------------------------------------------


def test_c121_what_is_rolled_back_is_not_told(server: Any, http: Http, connect: Connect) -> None:
    from selfdb.server import rows
    from selfdb.server.access import Principal

    services = server._running().services
    table = Table(http, http.admin)
    raw = connect(server, http.admin).joined(table.topic)
    caller = Principal(http.get("/users/me", bearer=http.admin).json()["id"], "ADMIN", "")
    row = table.insert(1)
    with pytest.raises(ZeroDivisionError), services.database.write() as connection:
        rows.insert(connection, services, caller, table.id, {"n": 2})
        rows.update(connection, services, caller, table.id, row["id"], {"n": 3})
        rows.delete(connection, services, caller, table.id, row["id"])
        raise ZeroDivisionError
    again = http.post(f"/tables/{table.id}/data", json={"id": row["id"]}, bearer=http.admin)
    assert again.status_code == 409
    assert http.post(f"/tables/{table.id}/data", json={"n": "x"}, bearer=http.admin).status_code == 400
    table.delete(row["id"])
    assert raw.receive() == table.event("INSERT", row, None)
    assert raw.receive() == table.event("DELETE", None, row)
    raw.beat()


def test_c121_a_kept_answer_is_told_once(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    raw = connect(server, http.admin).joined(table.topic)
    for _ in range(3):
        answer = http.post(
            f"/tables/{table.id}/data", json={"n": 1}, bearer=http.admin, headers={"Idempotency-Key": table.name}
        )
    assert raw.receive() == table.event("INSERT", answer.json(), None)
    last = table.insert(2)
    assert raw.receive() == table.event("INSERT", last, None)


def test_c121_a_table_made_private_is_closed_to_strangers(server: Any, http: Http, connect: Connect) -> None:
    _, owner = http.new_user()
    _, other = http.new_user()
    table = Table(http, owner)
    stranger = connect(server, other).joined(table.topic, "3")
    stay = [connect(server, token).joined(table.topic) for token in (owner, http.admin)]
    table.change(public=False)
    row = table.insert(1)
    assert stranger.receive() == ["3", "3", table.topic, "phx_close", {}]
    for raw in stay:
        assert raw.receive() == table.event("INSERT", row, None)
    assert stranger.join(table.topic)["response"] == {"reason": "unauthorized"}
    table.change(public=True)
    stranger.joined(table.topic)


def test_c121_a_table_renamed_or_deleted_is_closed_to_all(server: Any, http: Http, connect: Connect) -> None:
    table = Table(http, http.admin)
    old, new = table.name, unique("r")
    raw = connect(server, http.admin).joined(table.topic)
    table.change(description="this closes nothing")
    row = table.insert(1)
    assert raw.receive() == table.event("INSERT", row, None)
    table.change(name=new)
    assert raw.receive() == ["1", "1", f"table:{old}", "phx_close", {}]
    table.name = new
    raw.joined(table.topic, "2")
    # A new table of the old name is another channel.
    other = Table(http, http.admin)
    other.change(name=old)
    other.name = old
    other.insert(1)
    row = table.insert(2)
    assert raw.receive() == table.event("INSERT", row, None)
    table.drop()
    assert raw.receive() == ["2", "2", table.topic, "phx_close", {}]
    assert raw.join(table.topic, "3")["response"] == {"reason": "table not found"}


def test_c121_who_is_no_longer_an_admin_loses_what_only_admins_see(server: Any, http: Http, connect: Connect) -> None:
    user, _ = http.new_user(role="ADMIN")
    token = http.login(user["email"], "password123").access
    _, owner = http.new_user()
    private, public = Table(http, owner, public=False), Table(http, owner)
    raw = connect(server, token).joined(private.topic).joined(public.topic, "2")
    assert http.patch(f"/users/{user['id']}", json={"role": "USER"}, bearer=http.admin).status_code == 200
    assert raw.receive() == ["1", "1", private.topic, "phx_close", {}]
    private.insert(1)
    row = public.insert(1)
    assert raw.receive() == public.event("INSERT", row, None)


def test_c121_the_tables_of_a_deleted_user_are_closed(server: Any, http: Http, connect: Connect) -> None:
    user, owner = http.new_user()
    table = Table(http, owner)
    raw = connect(server, http.admin).joined(table.topic)
    assert http.delete(f"/users/{user['id']}", bearer=http.admin).status_code == 204
    assert raw.receive() == ["1", "1", table.topic, "phx_close", {}]
