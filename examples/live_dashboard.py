"""A dashboard in the terminal: what was sold, drawn anew by a live query whenever a row is written. Ctrl+C ends it.

python live_dashboard.py FILE                      draws; into a pipe goes a line for each change
python live_dashboard.py FILE --sell ITEM AMOUNT   writes a row, in another terminal: the dashboard sees it at once
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from selfdb.indexie import IndexedDBError, Indexie, use_live_query


def totals(db: Indexie) -> Counter[str]:
    """What the live query runs: again only when a row with an amount was written."""
    sold: Counter[str] = Counter()
    for sale in db.sales.where("amount").above(0):
        sold[sale["item"]] += sale["amount"]
    return sold


def draw(sold: Counter[str]) -> None:
    if sys.stdout.isatty():
        rows = [("sold", sum(sold.values())), *sold.most_common()]
        print("\x1b[2J\x1b[H" + "\n".join(f"{item:<20}{amount:>8}" for item, amount in rows), flush=True)
    else:
        print(", ".join(f"{amount} {item}" for item, amount in sold.most_common()) or "nothing sold", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--sell", nargs=2, metavar=("ITEM", "AMOUNT"))
    given = parser.parse_args()
    db = Indexie(given.file)
    db.version(1).stores({"sales": "++id, item, amount"})
    try:
        with db:
            if given.sell:
                db.sales.add({"item": given.sell[0], "amount": int(given.sell[1])})
            else:
                with use_live_query(lambda: totals(db)) as dashboard:
                    for sold in dashboard:
                        draw(sold)
    except KeyboardInterrupt:
        pass
    except (IndexedDBError, ValueError) as error:
        sys.exit(f"live_dashboard: {error}")
