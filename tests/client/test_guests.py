"""``client.as_guest()``: somebody who signs in for himself on the connections of all."""

from __future__ import annotations

from typing import Any

import pytest

from selfdb import AuthenticationError, SelfDB
from tests.servers.clock import FakeClock
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD


def test_a_guest_signs_in_for_himself_alone(server: Any) -> None:
    with SelfDB(server.url, server.api_key) as db:
        guest = db.as_guest()
        guest.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        assert guest.auth.me().email == ADMIN_EMAIL
        assert db.access_token is None
        with pytest.raises(AuthenticationError):
            db.auth.me()


def test_a_guest_of_a_signed_in_client_is_nobody(server: Any) -> None:
    with SelfDB(server.url, server.api_key) as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        guest = db.as_guest()
        assert guest.access_token is None
        with pytest.raises(AuthenticationError):
            guest.auth.me()
        assert db.auth.me().email == ADMIN_EMAIL


@pytest.mark.parametrize("auto_refresh", [True, False])
def test_clones_for_users_renew_as_their_client_does(make_server: Any, clock: FakeClock, auto_refresh: bool) -> None:
    server = make_server(clock=clock)
    with SelfDB(server.url, server.api_key, auto_refresh=auto_refresh) as db:
        guest = db.as_guest()
        pair = guest.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        user = guest.as_user(pair.access_token, pair.refresh_token)
        clock.advance(3600)
        for clone in (user, guest):
            if auto_refresh:
                assert clone.auth.me().email == ADMIN_EMAIL
            else:
                with pytest.raises(AuthenticationError):
                    clone.auth.me()


def test_a_user_without_a_refresh_token_is_never_renewed(make_server: Any, clock: FakeClock) -> None:
    server = make_server(clock=clock)
    with SelfDB(server.url, server.api_key) as db:
        user = db.as_user(db.as_guest().auth.login(ADMIN_EMAIL, ADMIN_PASSWORD).access_token)
        assert user.auth.me().email == ADMIN_EMAIL
        clock.advance(3600)
        with pytest.raises(AuthenticationError):
            user.auth.me()
