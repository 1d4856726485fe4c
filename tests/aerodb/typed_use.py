"""What the type checker must accept, and refuse where it is told to ignore: read by a test, never run."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from pydantic import BaseModel

from selfdb.aerodb import AeroDBClient, AeroDBError, AeroDBResponse, QueryBuilder, filters


class User(BaseModel):
    id: int
    name: str


def use(client: AeroDBClient) -> None:
    many: AeroDBResponse[List[Dict[str, Any]]] = client.from_("users").select("id").eq("id", 1).execute()
    rows: List[Dict[str, Any]] = many.unwrap()
    perhaps: Optional[List[Dict[str, Any]]] = many.data
    error: Optional[AeroDBError] = many.error
    one: Dict[str, Any] = client.from_("users").single().execute().unwrap()
    maybe: Optional[Dict[str, Any]] = client.from_("users").maybe_single().execute().unwrap()
    nothing: AeroDBResponse[None] = client.from_("users").select("*", count="exact", head=True).execute()
    users: List[User] = client.from_("users", model=User).order("id").limit(5).execute().unwrap()
    user: User = client.from_("users", User).single().execute().unwrap()
    perhaps_user: Optional[User] = client.table("users", model=User).maybe_single().execute().unwrap()
    made: User = client.from_("users", model=User).single().insert(User(id=1, name="x")).unwrap()
    changed: List[User] = client.from_("users", model=User).eq("id", 1).update({"name": "y"}).unwrap()
    names: List[str] = [row.name for row in client.from_("users", model=User).stream(key="id")]
    pages: List[List[User]] = [page.unwrap() for page in client.from_("users", model=User).pages(size=10)]
    row: Dict[str, Any] = next(client.from_("users").stream())
    with client.from_("users", model=User).stream() as stream:
        first: User = next(stream)
        failed: Optional[AeroDBError] = stream.error
    anything: Any = client.rpc("add", {"a": 1, "b": 2}).data
    base: QueryBuilder[User, List[User]] = client.from_("users", model=User).or_(filters.eq("id", 1), "id.eq.2")

    client.from_("users").update({"a": 1}).eq("id", 1)  # type: ignore[attr-defined]
    client.from_("users").eq("id", 1).delete().execute()  # type: ignore[attr-defined]
    wrong: List[User] = client.from_("users").execute().unwrap()  # type: ignore[assignment]
    client.from_("users", model=int)  # type: ignore[type-var]
    client.from_("users").limit("5")  # type: ignore[arg-type]
    client.from_("users").single().execute().unwrap().nowhere  # type: ignore[attr-defined]
    many.data[0]  # type: ignore[index]
    print(rows, perhaps, error, one, maybe, nothing, users, user, perhaps_user, made, changed, names, pages, row)
    print(first, failed, anything, base, wrong)
