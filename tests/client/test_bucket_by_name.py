"""``client.storage.buckets.get_by_name``: by the whole name, among the buckets that the caller may see."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from selfdb import NotFoundError, SelfDB
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD, Http


def test_only_the_whole_name_counts_and_only_what_one_may_see(
    server: Any, http: Http, unique: Callable[..., str]
) -> None:
    name = unique("b")
    with SelfDB(server.url, server.api_key) as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        db.storage.buckets.create({"name": f"{name}-more"})
        with pytest.raises(NotFoundError, match=name) as missing:
            db.storage.buckets.get_by_name(name)
        assert missing.value.status_code == 404  # as if the server had looked
        made = db.storage.buckets.create({"name": name})
        assert db.storage.buckets.get_by_name(name).id == made.id
        _, stranger = http.new_user()
        with pytest.raises(NotFoundError, match="may not see"):
            db.as_user(stranger).storage.buckets.get_by_name(name)
