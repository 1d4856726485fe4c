"""The device: works by the plan of a real PostgREST, and by the last one it read while nothing reaches that."""

from __future__ import annotations

import signal
import stat
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from tests.examples.conftest import Output, Reader
from tests.servers.postgrest import PostgRest
from tests.servers.tcpproxy import TcpProxy

DEVICE = "field_device.py"
SECONDS = 90.0
FIRST = "valve 2 at 06:30 for 15 min; valve 1 at 07:00 for 10 min"
SECOND = "valve 1 at 07:00 for 10 min"


class Device:
    """A running device."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.shown = Output(process.stdout)
        self.said = Output(process.stderr)

    def end(self) -> int:
        """Its exit code after Ctrl+C."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(SECONDS)
        self.shown.join()
        self.said.join()
        assert "Traceback" not in "\n".join(self.said.lines)
        return code


@pytest.fixture
def start(rest_reader: Reader) -> Iterator[Callable[..., Device]]:
    """``start(*arguments, **changes)``: a `Device`, ended with the test at the latest."""
    devices: List[Device] = []

    def start_device(*arguments: object, **changes: str) -> Device:
        devices.append(Device(rest_reader.start(DEVICE, *arguments, "--every", 0.1, **changes)))
        return devices[-1]

    yield start_device
    for device in devices:
        with device.process:
            device.process.kill()  # harmless once it has ended
            device.shown.join()
            device.said.join()


@pytest.fixture
def network(rest: PostgRest) -> Iterator[TcpProxy]:
    """What lies between the device and PostgREST."""
    with TcpProxy(int(rest.url.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def plan(sql: Callable[..., Any]) -> None:
    sql("TRUNCATE plan")
    sql("INSERT INTO plan VALUES ('north', 1, '07:00', 10), ('north', 2, '06:30', 15), ('south', 1, '05:00', 60)")


def lose(network: TcpProxy) -> None:
    network.refuse()
    network.cut()


def test_it_reads_on_while_the_network_is_gone_and_again_when_it_is_back(
    start: Callable[..., Device], network: TcpProxy, sql: Callable[..., Any]
) -> None:
    device = start("north", AERODB_URL=network.url)
    device.shown.wait_for(f"online: {FIRST}")
    lose(network)
    seen = device.shown.wait_for(f"offline: {FIRST}")
    sql("DELETE FROM plan WHERE valve = 2")
    device.shown.wait_for(f"offline: {FIRST}", after=seen)
    network.resume()
    seen = device.shown.wait_for(f"online: {SECOND}")
    lose(network)
    device.shown.wait_for(f"offline: {SECOND}", after=seen)
    assert device.end() == 0
    assert device.said.lines == []
    assert set(device.shown.lines) == {
        f"online: {FIRST}",
        f"offline: {FIRST}",
        f"online: {SECOND}",
        f"offline: {SECOND}",
    }


def test_it_starts_without_a_network_and_knows_its_plan(
    start: Callable[..., Device], rest_reader: Reader, network: TcpProxy
) -> None:
    first = start("north", AERODB_URL=network.url)
    first.shown.wait_for(f"online: {FIRST}")
    assert first.end() == 0
    lose(network)
    second = start("north", AERODB_URL=network.url)
    second.shown.wait_for(f"offline: {FIRST}")
    assert second.end() == 0
    assert not any(line.startswith("online") for line in second.shown.lines)
    third = start("south", AERODB_URL=network.url)  # whose plan nobody has read
    third.said.wait_for(told := "field_device: the plan cannot be read: " + _refused(network))
    assert third.end() == 0
    assert (third.shown.lines, set(third.said.lines)) == ([], {told})
    kept: Path = rest_reader.home / ".field-device" / "plan.db"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert b"key-of-the-reader" not in kept.read_bytes()


def _refused(network: TcpProxy) -> str:
    return f"{network.url} refused the connection; is the server running, and are host and port right?"


def test_a_server_that_is_overloaded_is_waited_for(start: Callable[..., Device], rest: PostgRest) -> None:
    rest.instead = lambda request: (503, {}, b"too many people") if len(rest.requests) < 3 else None
    device = start("north")
    device.shown.wait_for(f"online: {FIRST}")
    assert device.end() == 0
    assert device.said.lines == ["field_device: the plan cannot be read: too many people"] * 2


def test_a_refusal_ends_it(start: Callable[..., Device], sql: Callable[..., Any]) -> None:
    sql("REVOKE SELECT ON plan FROM web_reader")
    try:
        device = start("north")
        assert device.wait() == 1
    finally:
        sql("GRANT SELECT ON plan TO web_reader")
    assert device.said.lines == ["field_device: permission denied for table plan"]
    assert device.shown.lines == []


def test_without_an_address_it_says_so(rest_reader: Reader) -> None:
    done = rest_reader.run(DEVICE, "north", AERODB_URL="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("field_device: url ")
