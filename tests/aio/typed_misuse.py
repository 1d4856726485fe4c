"""What type checkers must refuse of ``selfdb.aio``: each line that says so, no other. Read by a test, never run."""

# pyright: basic

from __future__ import annotations

from selfdb import SelfDB as BlockingSelfDB
from selfdb.aio import Channel, EventStream, SelfDB
from selfdb.aio.indexie import Indexie
from selfdb.models import RealtimePayload

# Nobody awaits what comes, and goes on with it.


async def attribute_of_a_call(db: SelfDB) -> None:
    print(db.auth.me().email)  # refused


async def result_of_a_call(db: SelfDB) -> int:
    return db.auth.count()  # refused


async def result_as_an_argument(db: SelfDB) -> int:
    return len(db.tables.list(limit=5))  # refused


async def item_of_a_page(db: SelfDB) -> None:
    print(db.tables.data.query("t").execute().data[0])  # refused


async def condition(db: SelfDB) -> None:
    if db.storage.buckets.count() > 5:  # refused
        print("many")


async def raw_answer(db: SelfDB) -> None:
    print(db.with_raw_response.auth.me().parse())  # refused


async def client_of_a_server_that_is_not_there_yet() -> None:
    print(SelfDB.local().base_url)  # refused


async def download_before_it_is_opened(db: SelfDB) -> None:
    print(db.storage.files.stream("b", "p").total)  # refused


# Nobody awaits what comes, and it never happens.


async def sign_in(db: SelfDB) -> None:
    db.auth.login(email="a@example.com", password="password")  # refused


async def connect(db: SelfDB) -> None:
    db.realtime.connect()  # refused


async def subscribe(channel: Channel) -> None:
    channel.subscribe()  # refused


async def upload(db: SelfDB) -> None:
    db.storage.files.upload("b", "f", b"content")  # refused


async def close(db: SelfDB) -> None:
    db.close()  # refused


# A loop or a block of the other kind.


async def loop_over_a_query(db: SelfDB) -> None:
    for row in db.tables.data.query("t"):  # refused
        print(row)


async def loop_over_an_awaited_query(db: SelfDB) -> None:
    for row in await db.tables.data.query("t"):  # refused
        print(row)


async def loop_over_a_list_that_was_not_awaited(db: SelfDB) -> None:
    for table in db.tables.list():  # refused
        print(table)


async def asynchronous_loop_over_a_list(db: SelfDB) -> None:
    async for table in db.tables.list():  # refused
        print(table)


async def loop_over_all(db: SelfDB) -> None:
    for user in db.auth.users.iter():  # refused
        print(user)


async def loop_over_events(channel: Channel) -> None:
    for event in channel.events():  # refused
        print(event)


async def loop_over_changes(db: SelfDB, channel: Channel) -> None:
    for change in channel.follow(db.tables.data.query("t")):  # refused
        print(change)


async def loop_over_blocks(db: SelfDB) -> None:
    for block in db.storage.files.stream("b", "p"):  # refused
        print(block)


async def block_around_a_client() -> None:
    with SelfDB("http://127.0.0.1:8000", "key") as db:  # refused
        print(db)


async def block_around_a_local_client() -> None:
    with SelfDB.local() as db:  # refused
        print(db)


async def block_around_a_download(db: SelfDB) -> None:
    with db.storage.files.stream("b", "p") as blocks:  # refused
        print(blocks)


async def block_around_events(channel: Channel) -> None:
    with channel.events() as stream:  # refused
        print(stream)


# What is not to be awaited.


async def plain_close(stream: EventStream) -> None:
    await stream.close()  # refused


async def builder_step(db: SelfDB) -> None:
    await db.tables.data.query("t").search("a")  # refused


async def handler(channel: Channel) -> None:
    await channel.on("INSERT", print)  # refused


# Arguments.


async def unknown(db: SelfDB) -> None:
    await db.auth.users.list(lmit=5)  # refused


async def of_another_type(db: SelfDB) -> None:
    await db.tables.list(skip="x")  # refused


async def names(payload: RealtimePayload) -> str:
    return payload.event


async def predicate_that_gives_no_truth(channel: Channel) -> None:
    await channel.wait_for("INSERT", names)  # refused


async def callback_without_a_parameter(channel: Channel) -> None:
    channel.on("INSERT", lambda: None)  # refused


async def query_of_the_blocking_client(blocking: BlockingSelfDB, channel: Channel) -> None:
    await channel.follow(blocking.tables.data.query("t"))  # refused


async def no_such_call(db: SelfDB) -> None:
    await db.realtime.tick()  # refused


async def no_such_call_of_the_store(db: Indexie) -> None:
    await db.notes.ad({"title": "x"})  # refused


async def query_that_is_not_awaited(db: Indexie) -> int:
    return db.notes.count()  # refused


async def block_without_async(db: Indexie) -> None:
    with db.transaction("rw", ["notes"]):  # refused
        pass
