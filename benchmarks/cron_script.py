"""A script as a clock starts it: log in, insert one row, end. ``python cron_script.py CLIENT URL TABLE``."""

import sys

KEY = "bench-key-0123456789"
EMAIL = "ada@example.com"
PASSWORD = "password-of-ada"
ROW = {"title": "a row of about two hundred bytes", "n": 7, "done": False, "note": "x" * 110}
CLIENT, URL, TABLE = sys.argv[1:4]

if CLIENT == "selfdb":
    from selfdb import SelfDB

    with SelfDB(URL, KEY) as db:
        db.auth.login(EMAIL, PASSWORD)
        stored = db.tables.data.insert(TABLE, ROW)

elif CLIENT == "requests":
    import requests

    with requests.Session() as session:
        session.headers["X-API-Key"] = KEY
        answer = session.post(f"{URL}/users/token", json={"email": EMAIL, "password": PASSWORD}, timeout=30)
        answer.raise_for_status()
        session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        answer = session.post(f"{URL}/tables/{TABLE}/data", json=ROW, timeout=30)
        answer.raise_for_status()
        stored = answer.json()

else:
    import asyncio

    from selfdb import SelfDB as Published  # in the environment that has the published one

    async def main():
        async with Published(base_url=URL, api_key=KEY) as db:
            await db.auth.login(EMAIL, PASSWORD)
            return await db.tables.data.insert(TABLE, ROW)

    stored = asyncio.run(main())

if not stored["id"]:
    raise SystemExit("no row came back")
