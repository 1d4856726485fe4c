"""``insert_many`` and ``delete_many``: each row is done, refused or unknown."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from selfdb import BadRequestError, ConflictError, InvalidRequestError, NotFoundError, OutcomeStatus, SelfDB
from tests.client.conftest import Recorded
from tests.servers import scripted as steps

NewTable = Callable[..., Any]


def test_rows_go_in_and_out(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin)
    told: List[Tuple[int, Any]] = []
    rows = [{"title": f"{number}", "amount": number} for number in range(30)]
    report = admin.tables.data.insert_many(table.id, rows, progress=lambda *args: told.append(args))
    assert (len(report), len(report.done), report.refused, report.unknown) == (30, 30, [], [])
    assert [outcome.result["amount"] for outcome in report if outcome.result] == list(range(30))
    assert told == [(number, 30) for number in range(1, 31)]
    assert admin.tables.get(table.id).row_count == 30
    ids = [outcome.result["id"] for outcome in report.done if outcome.result]
    gone = admin.tables.data.delete_many(table.id, ids)
    assert [outcome.result.row_id for outcome in gone if outcome.result] == ids
    gone.raise_for_failures()
    assert admin.tables.get(table.id).row_count == 0


def test_refused_rows_do_not_stop_the_others(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin)
    rows: List[Any] = [
        {"amount": 1},
        {"amount": "x"},
        {"colour": "red"},
        {"amount": float("nan")},
        "row",
        {"amount": 2},
    ]
    report = admin.tables.data.insert_many(table.id, rows, concurrency=2)
    assert [outcome.status.value for outcome in report] == ["done", "refused", "refused", "refused", "refused", "done"]
    assert [type(outcome.error) for outcome in report.refused] == [BadRequestError] * 2 + [InvalidRequestError] * 2
    assert [outcome.item for outcome in report.refused][:2] == rows[1:3]
    assert [outcome.item for outcome in report.done] == [None, None]
    assert repr(report) == "BulkReport(done=2, refused=4, unknown=0)"
    assert sorted(row["amount"] for row in admin.tables.data.query(table.id)) == [1, 2]
    with pytest.raises(BadRequestError):
        report.raise_for_failures()


def test_deleting_what_is_not_there_or_not_one(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"amount": 1}, {"amount": 2}, {"amount": 2}])
    report = admin.tables.data.delete_many(table.id, [1, 9, 2], id_column="amount")
    assert [outcome.status for outcome in report] == [
        OutcomeStatus.DONE,
        OutcomeStatus.REFUSED,
        OutcomeStatus.REFUSED,
    ]
    assert [type(outcome.error) for outcome in report.refused] == [NotFoundError, ConflictError]
    assert admin.tables.get(table.id).row_count == 2


@pytest.mark.parametrize("way", ["reset", "cut short", "502"])
def test_rows_whose_answer_was_lost_are_unknown(
    scripted: Callable[..., Any], connect: Callable[..., SelfDB], way: str
) -> None:
    lost: Dict[str, List[Any]] = {
        "reset": [steps.reset()],
        "cut short": [steps.reply(201, b"{", length=9), steps.close()],
        "502": [steps.reply(502, b"", {"Connection": "close"}), steps.close()],
    }
    server = scripted(
        [steps.read(), steps.reply(201, b'{"id": 1}'), steps.read(), *lost[way]],
        [steps.read(), steps.reply(422, b'{"detail": "no"}'), steps.close()],
    )
    db = connect(server, max_retries=2)
    report = db.tables.data.insert_many("t", [{"a": number} for number in range(3)], concurrency=1)
    assert [outcome.status.value for outcome in report] == ["done", "unknown", "refused"]
    assert report.unknown[0].item == {"a": 1}
    assert [request.body for request in server.requests] == [b'{"a":0}', b'{"a":1}', b'{"a":2}']


def test_rows_that_never_left_are_refused(scripted: Callable[..., Any], connect: Callable[..., SelfDB]) -> None:
    server = scripted([steps.read(), steps.reply(201, b'{"id": 1}', {"Connection": "close"}), steps.close()])
    db = connect(server)
    db.tables.data.insert("t", {"a": 0})
    server.stop()
    report = db.tables.data.insert_many("t", [{"a": 1}, {"a": 2}])
    assert [outcome.status.value for outcome in report] == ["refused", "refused"]


def test_at_most_as_many_as_allowed_are_under_way(replies: Callable[..., Any], connect: Callable[..., SelfDB]) -> None:
    """Four at once and never a fifth, of a source that is read only as it goes."""
    lock = threading.Lock()
    together = threading.Barrier(4)
    now, most, taken = [0], [0], [0]

    def script(request: Any) -> Tuple[int, Dict[str, str], Any]:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait(30)  # passes only when four are here
        with lock:
            now[0] -= 1
        return 201, {}, {"id": 1}

    def rows() -> Iterator[Dict[str, int]]:
        for number in range(20):
            taken[0] += 1
            yield {"a": number}

    server = replies(script)
    told: List[Tuple[int, Any]] = []

    def progress(done: int, total: Any) -> None:
        told.append((done, total))
        assert taken[0] <= done + 5

    report = connect(server).tables.data.insert_many("t", rows(), concurrency=4, progress=progress)
    assert len(report.done) == 20
    assert most[0] == 4
    assert told == [(number, None) for number in range(1, 21)]
    assert server.connections == 4


def test_nothing_to_do(recorded: Recorded) -> None:
    report = recorded.db.tables.data.insert_many("t", [])
    assert (len(report), list(report)) == (0, [])
    report.raise_for_failures()
    assert recorded.lines == []


@pytest.mark.parametrize("concurrency", [0, 65, True, "8"])
def test_a_concurrency_that_is_none(recorded: Recorded, concurrency: Any) -> None:
    with pytest.raises(InvalidRequestError, match="concurrency"):
        recorded.db.tables.data.insert_many("t", [{"a": 1}], concurrency=concurrency)
    with pytest.raises(InvalidRequestError, match="concurrency"):
        recorded.db.tables.data.delete_many("t", [1], concurrency=concurrency)
    assert recorded.lines == []


def test_what_the_source_raises_ends_it(recorded: Recorded) -> None:
    def rows() -> Iterator[Dict[str, int]]:
        yield {"a": 1}
        raise KeyError("mine")

    recorded.will((201, {}, {"id": 1}))
    with pytest.raises(KeyError, match="mine"):
        recorded.db.tables.data.insert_many("t", rows(), concurrency=1)


def test_a_page_of_any_iterable(recorded: Recorded) -> None:
    recorded.will(*[(201, {}, {"id": 1})] * 3)
    assert len(recorded.db.tables.data.insert_many("t", ({"a": n} for n in range(3)), concurrency=1).done) == 3
