"""A first look: sign in, make a table, search it, store a file and read it again.

The server is the embedded one, on a free port, with its data in a temporary folder; both are gone afterwards.

    pip install ".[server]"
    python examples/quickstart.py
"""

from __future__ import annotations

import sys

from selfdb import SelfDB
from selfdb.models import BucketCreate, TableCreate, UserCreate

SIGHTINGS = [
    {"at": "2025-05-04T04:40:00Z", "bird": "barn owl", "place": "over the meadow"},
    {"at": "2025-05-04T06:05:00Z", "bird": "kingfisher", "place": "under the bridge"},
    {"at": "2025-05-04T12:30:00Z", "bird": "wren", "place": "in the flower pot, again"},
    {"at": "2025-05-04T21:50:00Z", "bird": "tawny owl", "place": "behind the church"},
]


def main() -> int:
    with SelfDB.local() as db:  # elsewhere: SelfDB("https://api.example.com", "your-api-key")
        print(f"A server is up at {db.base_url}.")

        ada = UserCreate(email="ada@example.com", password="two owls", firstName="Ada", lastName="Finch")
        db.auth.users.create(ada)
        db.auth.login(email=ada.email, password=ada.password)
        print(f"{db.auth.me().firstName} has an account and is signed in.")

        table = db.tables.create(
            TableCreate(
                name="sightings",
                table_schema={
                    "at": {"type": "timestamp", "nullable": False},
                    "bird": {"type": "text", "nullable": False},
                    "place": {"type": "text"},
                },
            )
        )
        for sighting in SIGHTINGS:
            db.tables.data.insert(table.id, sighting)
        print(f"Her table {table.name!r} holds {db.tables.data.query(table.id).count()} rows. The owls among them:")

        for row in db.tables.data.query(table.id).search("owl").sort("at", "asc"):
            print(f"    {row['at'][11:16]}  {row['bird']}, {row['place']}")

        bucket = db.storage.buckets.create(BucketCreate(name="field-notes"))
        stored = db.storage.files.upload(bucket.id, "may.txt", "Two owls in a day. A good day.", path="2025")
        print(f"Uploaded {stored.path} to {stored.bucket!r}: {stored.size} bytes.")
        print(f"Downloaded it again: {db.storage.files.download('field-notes', '2025/may.txt').decode()}")
    print("The server has stopped and its folder is gone. Goodbye!")
    return 0


if __name__ == "__main__":
    sys.exit(main())
