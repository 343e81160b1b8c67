"""The rows of a house, read behind its back, and the two databases that a test runs on.

    with stored_on("postgres") as stored, House(settings=stored.settings) as house:
        stored.of(house)
        stored.rows("select count(*) from pings")

Values come back as text, as both databases can give them: null is empty, an id is 32 hexadecimal digits by
`stored.hex("c.id")`.
"""

from __future__ import annotations

import contextlib
import sqlite3

from house import House
from postgres import Cluster

DATABASES = ["sqlite", "postgres"]


class Stored:
    """What a database holds. `cluster` is `None` on SQLite."""

    def __init__(self, cluster: Cluster | None = None):
        self.cluster = cluster
        self.database = cluster.database() if cluster else ""
        self.settings = {"DATABASE_URL": cluster.url(self.database)} if cluster else {}
        self.house: House | None = None

    def of(self, house: House) -> "Stored":
        self.house = house
        return self

    def hex(self, column: str) -> str:
        """An id as text, in SQL."""
        return f"replace({column}::text, '-', '')" if self.cluster else f"lower(hex({column}))"

    def new_id(self) -> str:
        """A fresh id for each row, in SQL."""
        return "gen_random_uuid()" if self.cluster else "randomblob(16)"

    def _file(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.house.data / 'allswell.db'}?mode={mode}", uri=True, timeout=30)

    def rows(self, sql: str) -> list[tuple[str, ...]]:
        if self.cluster:
            text = self.cluster.sql(sql, self.database)
            return [tuple(line.split("|")) for line in text.splitlines()]
        with contextlib.closing(self._file("ro")) as db:
            return [tuple("" if value is None else str(value) for value in row) for row in db.execute(sql)]

    def number(self, sql: str) -> int:
        """The one number that a statement gives."""
        [(value,)] = self.rows(sql)
        return int(value)

    def change(self, sql: str) -> None:
        """A change behind the server's back, beside it."""
        if self.cluster:
            self.cluster.sql(sql, self.database)
        else:
            with contextlib.closing(self._file("rw")) as db, db:
                db.execute(sql)

    @contextlib.contextmanager
    def at_once(self):
        """Many large changes that nobody needs to be on the disk before the last: gives what makes one."""
        if self.cluster:
            yield self.change
            return
        with contextlib.closing(self._file("rw")) as db:
            for pragma in ("cache_size = -1000000", "synchronous = off", "temp_store = memory"):
                db.execute(f"pragma {pragma}")
            yield lambda sql: (db.execute(sql), db.commit())

    def columns(self, table: str) -> list[str]:
        sql = (
            f"select column_name from information_schema.columns where table_name = '{table}'"
            if self.cluster
            else f"select name from pragma_table_info('{table}')"
        )
        return [name for (name,) in self.rows(sql)]

    def multiply(self, check: str, count: int) -> list[str]:
        """So many more checks like this one, each with an id of its own; the ids of all like it."""
        kept = [name for name in self.columns("checks") if name not in ("id", "badge_id")]
        one = check.replace("-", "")
        numbers = (
            f"generate_series(1, {count}) as n(i)"
            if self.cluster
            else f"(with recursive n(i) as (select 1 union all select i + 1 from n where i < {count}) select i from n)"
        )
        names = ", ".join(kept)
        self.change(
            f"insert into checks (id, badge_id, {names}) select {self.new_id()}, {self.new_id()}, {names}"
            f" from checks, {numbers} where {self.hex('id')} = '{one}'"
        )
        [(name,)] = self.rows(f"select name from checks where {self.hex('id')} = '{one}'")
        return [found for (found,) in self.rows(f"select {self.hex('id')} from checks where name = '{name}'")]


@contextlib.contextmanager
def stored_on(database: str, durable: bool = False, cluster_settings: dict[str, str] | None = None):
    """An empty place for a house: `sqlite`, or `postgres` in a fresh cluster, with these settings of its own."""
    if database == "sqlite":
        yield Stored()
    else:
        flushing = {"fsync": "on", "full_page_writes": "on"} if durable else {}
        with Cluster({**flushing, **(cluster_settings or {})}) as cluster:
            yield Stored(cluster)
