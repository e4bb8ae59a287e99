"""Rows of a PostgreSQL table or query, by Ibis: streamed through a cursor of the server.

The fingerprint is computed by the server: the number of rows and the sum of a 64-bit hash of each.
It reads them all, sends none, does not depend on their order, and changes with any value.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa

from ingestion.errors import IngestError
from ingestion.reading.settings import SqlConfig

_ROWS_A_BATCH = 50_000
_SCHEMES = ("postgresql://", "postgres://")


def sql_name(sql: SqlConfig) -> str:
    """As messages and rejects show it, without anything secret: "$SHOP_DB/shop.events"."""
    return f"${sql.url_env}/{sql.table or 'query'}"


def sql_fingerprint(table: str, sql: SqlConfig) -> str:
    """Of the rows as they are now.

    Raises:
        IngestError: as `sql_rows`.
    """
    with _connected(table, sql) as (backend, rows):
        return _fingerprint(backend, rows)


@contextmanager
def sql_rows(table: str, sql: SqlConfig) -> Iterator[tuple[pa.RecordBatchReader, str]]:
    """The rows as Arrow batches, and their fingerprint, both of one state of the database.

    Integers, floats, booleans, texts, dates, times and lists of these keep their types; whatever
    else there is (numeric, uuid, json, enums) comes as the database's text for it.

    Raises:
        IngestError: the variable is not set, the database does not answer, refuses or has no such
            table or column, or the query is wrong; it never shows the URL.
    """
    with _connected(table, sql) as (backend, rows):
        content = _fingerprint(backend, rows)
        plain = rows.mutate(
            {name: rows[name].cast("string") for name in rows.columns if not _plain(rows[name])}
        )
        if sql.order_by:
            missing = [name for name in sql.order_by if name not in rows.columns]
            if missing:
                raise IngestError(
                    f"{table}: {sql_name(sql)} has no column {', '.join(missing)} to order by; it "
                    f"has {', '.join(rows.columns)}: correct source.{table}.sql.order_by"
                )
            plain = plain.order_by([rows[name] for name in sql.order_by]).select(rows.columns)
        yield backend.to_pyarrow_batches(plain, chunk_size=_ROWS_A_BATCH), content


@contextmanager
def _connected(table: str, sql: SqlConfig) -> Iterator[tuple[Any, ir.Table]]:
    """An Ibis backend inside one transaction, and the rows as its expression."""
    import ibis
    import psycopg

    try:
        with psycopg.connect(_url(table, sql), autocommit=True) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            backend = ibis.postgres.from_connection(connection)
            with connection.transaction():  # one state of the database for all that is asked
                yield backend, _rows(backend, table, sql)
    except (psycopg.Error, pa.ArrowException) as error:
        raise IngestError(f"{table}: {sql_name(sql)}: {_explained(table, sql, error)}") from None


def _url(table: str, sql: SqlConfig) -> str:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    url = os.environ.get(sql.url_env, "")
    if not url:
        raise IngestError(
            f"{table}: environment variable {sql.url_env} is not set; put the database's URL into "
            "it (postgresql://user:password@host:5432/database), or correct "
            f"source.{table}.sql.url_env"
        )
    if not url.startswith(_SCHEMES):
        raise IngestError(
            f"{table}: environment variable {sql.url_env} is no PostgreSQL URL; it must begin "
            f"with {' or '.join(_SCHEMES)}"
        )
    # The driver's own messages repeat parts of an address that it misreads: of the password.
    unreadable = IngestError(
        f"{table}: the URL in {sql.url_env} cannot be read; special characters of a password are "
        "written as %40 (@), %2F (/), %23 (#), %3A (:) and so on"
    )
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        raise unreadable from None
    if "@" in str(parts.get("host", "")) or not re.fullmatch(r"[\d,]*", str(parts.get("port", ""))):
        raise unreadable
    return url


def _rows(backend: Any, table: str, sql: SqlConfig) -> ir.Table:
    from ibis.common.exceptions import TableNotFound

    if sql.query is not None:
        query = sql.query.strip().rstrip(";")
        return backend.sql(query, schema=_schema(backend, table, query))
    assert sql.table is not None
    schema, _, name = sql.table.rpartition(".")
    try:
        return backend.table(name, database=schema or None)
    except TableNotFound:
        known = ", ".join(sorted(backend.list_tables(database=schema or None))[:20]) or "nothing"
        where = f"schema {schema}" if schema else "its search path"
        raise IngestError(
            f"{table}: {sql_name(sql)}: the database has no table '{name}' in {where}; it has "
            f"{known}: correct source.{table}.sql.table"
        ) from None


def _schema(backend: Any, table: str, query: str) -> dict[str, Any]:
    """Names and types of a query's columns; Ibis would make a view, which replicas refuse."""
    import ibis.expr.datatypes as dt

    columns = backend.con.execute(f"SELECT * FROM ({query}\n) AS q LIMIT 0").description
    names = [column.name for column in columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise IngestError(
            f"{table}: the query has several columns named {', '.join(repeated)}; rename them in it"
        )
    schema = {}
    for column in columns:
        ((text,),) = backend.con.execute("SELECT format_type(%s, NULL)", [column.type_code])
        try:
            schema[column.name] = backend.compiler.type_mapper.from_string(text)
        except Exception:  # a type of the database's own
            schema[column.name] = dt.unknown
    return schema


def _fingerprint(backend: Any, rows: ir.Table) -> str:
    query = backend.compile(rows)
    cursor = backend.con.execute(
        "SELECT count(*), coalesce(sum(hashtextextended(ROW(r.*)::text, 0)), 0) "
        f"FROM ({query}) AS r"
    )
    count, total = cursor.fetchone()
    content = f"{count} {total} {','.join(rows.columns)}"
    return hashlib.sha256(content.encode()).hexdigest()


def _plain(column: ir.Value) -> bool:
    kind = column.type()
    while kind.is_array():
        kind = kind.value_type
    return any(
        (
            kind.is_integer(),
            kind.is_floating(),
            kind.is_boolean(),
            kind.is_string() and not kind.is_json(),
            kind.is_date(),
            kind.is_timestamp(),
        )
    )


def _explained(table: str, sql: SqlConfig, error: Any) -> str:
    """What went wrong, in the database's words."""
    import psycopg

    while isinstance(error, psycopg.errors.InvalidCursorName) and error.__context__:
        error = error.__context__  # the cursor went with what failed
    text = " ".join(str(error).split())
    if isinstance(error, pa.ArrowException) or (
        isinstance(error, psycopg.DataError) and error.sqlstate is None
    ):
        return (
            f"a value does not fit its column's type ({text}); give source.{table}.sql.query "
            "and cast the column there"
        )
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return f"the database cannot be reached, or refuses: {text}; check {sql.url_env}"
    what = "query" if sql.query else "table"
    return f"{text}; correct source.{table}.sql.{what}, or grant what it needs"
