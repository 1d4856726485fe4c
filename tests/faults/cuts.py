"""A bench of calls that are cut: an embedded server, proxies before it, what each call said and what it did."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import requests

from selfdb import SelfDB
from selfdb.exceptions import SelfDBError
from tests.faults.ledger import Ledger
from tests.servers.cutting import Cut, CuttingProxy

BOUND = 250.0  # seconds that all calls of a bench may take together, unless told otherwise


class Said(NamedTuple):
    """What the client said of one call: its result or its error."""

    logical: str
    cut: Optional[Cut]
    result: Any
    error: Optional[SelfDBError]

    @property
    def may_have_been_applied(self) -> bool:
        return self.error is None or self.error.may_have_been_applied


Call = Callable[[SelfDB, str], Any]


class CutBench:
    """See the top of this file; a context manager.

    :param server: a running embedded server on SQLite; it is stopped before effects are counted.
    :param token: an access token.
    :param workers: threads, each with a proxy and a client of its own.
    """

    def __init__(self, server: Any, token: str, *, workers: int = 3, theirs: bool = False, **options: Any) -> None:
        self.server = server
        self.ledger = Ledger(server)
        self._counted: Optional[Dict[Tuple[str, str], int]] = None
        port = int(server.url.rsplit(":", 1)[1])
        self._proxies = [CuttingProxy(port) for _ in range(workers)]
        self.token = token
        self._theirs = theirs
        self._options = options
        self._sessions: List[requests.Session] = []
        self._clients: List[SelfDB] = []

    def __enter__(self) -> CutBench:
        for proxy in self._proxies:
            proxy.start()
        self._clients = [self.client(proxy) for proxy in self._proxies]
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for client in self._clients:
            client.close()
        for session in self._sessions:
            session.close()
        for proxy in self._proxies:
            proxy.stop()
        self.effects()

    def client(self, proxy: CuttingProxy) -> SelfDB:
        """A client over ``proxy``, on a session of ours or of the caller's."""
        session = None
        if self._theirs:
            session = requests.Session()
            session.trust_env = False
            self._sessions.append(session)
        client = SelfDB(proxy.url, self.server.api_key, session=session, **self._options)
        client.access_token = self.token
        return client

    def lengths(self, call: Call, logical: str) -> Tuple[int, int]:
        """Bytes of the request and of the answer of an undisturbed ``call``, after one that each client makes first.

        Logical ids are of one length, and so are the exchanges.
        """
        for number, client in enumerate(self._clients):
            call(client, f"{logical}{number:02d}")
        self._proxies[0].watch()
        call(self._clients[0], f"{logical}99")
        return self._proxies[0].passed

    def run(
        self, call: Call, cuts: Sequence[Cut], prefix: str, *, fresh: bool = False, bound: float = BOUND
    ) -> List[Said]:
        """One logical call for each of ``cuts``.

        :param prefix: of the logical ids.
        :param fresh: a new client for each call, that knows nothing of the server.
        """
        work = list(enumerate(cuts))[::-1]
        said: List[Said] = []
        faults: List[BaseException] = []

        def labour(proxy: CuttingProxy, own: SelfDB) -> None:
            while work and not faults:
                try:
                    number, cut = work.pop()
                except IndexError:
                    return
                client = self.client(proxy) if fresh else own
                logical = f"{prefix}{number:06d}"
                proxy.cut_after(*cut)
                try:
                    said.append(Said(logical, cut, call(client, logical), None))
                except SelfDBError as error:
                    # Without its traceback, which holds the answer and its connection.
                    said.append(Said(logical, cut, None, error.with_traceback(None)))
                except BaseException as fault:  # nothing else may come out of a call
                    faults.append(fault)
                finally:
                    proxy.spare()
                    if fresh:
                        client.close()

        threads = [
            threading.Thread(target=labour, args=pair, name="cut-bench", daemon=True)
            for pair in zip(self._proxies, self._clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(bound)
        if faults:
            raise faults[0]
        assert len(said) == len(cuts), f"{len(said)} of {len(cuts)} calls came to an end"
        return sorted(said)

    def effects(self) -> Dict[Tuple[str, str], int]:
        """What was done, once the server has stopped and nothing can follow."""
        if self._counted is None:
            self.server.stop()
            self._counted = self.ledger.close()
        return self._counted
