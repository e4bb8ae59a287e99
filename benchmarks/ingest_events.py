"""A shop's events and items as they come: skewed, late, and dirty in known proportions.

Everything is a function of the row's number and the seed, so the same set comes out every time (of
one version of DuckDB, whose `hash` is used).
"""

from pathlib import Path

import duckdb

FILES = 8  # of the events: what a day's export looks like
SPAN_S = 90 * 86_400  # ninety days from START
START = 1_735_689_600  # 2025-01-01
MAX_EVENTS_A_DAY = 300  # what a person can do; the busiest honest user stays well below
REPEAT_WINDOW_S = 30
WORDS = [
    "cotton",
    "linen",
    "steel",
    "oak",
    "walnut",
    "ceramic",
    "glass",
    "leather",
    "silk",
    "wool",
    "small",
    "large",
    "compact",
    "folding",
    "electric",
    "manual",
    "outdoor",
    "kitchen",
    "garden",
    "office",
    "travel",
    "vintage",
    "modern",
    "classic",
    "soft",
    "heavy",
    "light",
    "lamp",
    "chair",
    "table",
    "kettle",
    "jacket",
    "boots",
    "blanket",
    "backpack",
    "drill",
    "notebook",
    "mug",
    "knife",
    "mirror",
    "shelf",
    "blue",
    "red",
    "green",
    "black",
    "white",
    "grey",
    "with",
    "for",
    "and",
    "of",
    "the",
    "set",
    "pair",
    "two",
    "three",
    "easy",
    "durable",
    "warm",
]


def users_of(events: int) -> int:
    """How many users a set of that size has."""
    return max(100, events // 100)


def items_of(events: int) -> int:
    """How many items a set of that size has."""
    return max(100, events // 250)


def write_events(folder: Path, events: int, seed: int) -> None:
    """`folder`/events-*.csv of `events` rows: columns user, item, ts, kind, amount, device.

    Of 1,000 rows some 5 are exact repetitions, 5 come again within REPEAT_WINDOW_S, 3 are of items
    that are not in the catalogue, 1 each lacks a user, a time, an amount that is a number, and 1 is
    of a bot that does a thousand things in one day.
    """
    users, items, bots = users_of(events), items_of(events), max(1, events // 1_000_000)
    connection = _connection(folder, seed)
    step = -(-events // FILES)
    for part in range(FILES):
        rows = range(part * step, min(events, (part + 1) * step))
        if not rows:
            break
        connection.execute(
            f"""
            COPY (
              WITH picked AS (
                SELECT i AS own, chance(i, 0) AS kind_of_dirt,
                  -- a repetition has everything from the row before it
                  CASE WHEN i > {rows.start} AND chance(i, 0) < 0.01 THEN i - 1 ELSE i END AS i
                FROM range({rows.start}, {rows.stop}) t(i)
              ), made AS (
                SELECT *,
                  chance(i, 1) < 0.001 AS is_bot,
                  CAST(floor({bots} * chance(i, 2)) AS BIGINT) AS bot,
                  -- mostly in order, and up to an hour late
                  CAST({START} + i * {SPAN_S / events} + 3600 * chance(i, 3) AS BIGINT) AS moment
                FROM picked
              )
              SELECT
                CASE WHEN kind_of_dirt >= 0.990 AND kind_of_dirt < 0.991 THEN NULL
                     WHEN is_bot THEN 'bot' || bot
                     ELSE 'u' || CAST(floor({users} * pow(chance(i, 4), 1.5)) AS BIGINT)
                END AS user,
                CASE WHEN chance(i, 5) < 0.003 THEN 'gone' || (i % 97)
                     ELSE 'i' || CAST(floor({items} * pow(chance(i, 6), 3)) AS BIGINT) END AS item,
                CASE WHEN kind_of_dirt >= 0.991 AND kind_of_dirt < 0.992 THEN 'n/a'
                     ELSE CAST(CASE WHEN is_bot THEN {START} + (bot % 90) * 86400 + i % 86400
                                    ELSE moment END
                          + CASE WHEN own <> i AND kind_of_dirt >= 0.005 THEN 7 ELSE 0 END
                          AS VARCHAR) END AS ts,
                CASE WHEN chance(i, 7) < 0.85 THEN 'view'
                     WHEN chance(i, 7) < 0.95 THEN 'cart' ELSE 'purchase' END AS kind,
                CASE WHEN kind_of_dirt >= 0.992 AND kind_of_dirt < 0.993 THEN 'free'
                     ELSE CAST(round(1 + 99 * chance(i, 8), 2) AS VARCHAR) END AS amount,
                ['web', 'ios', 'android'][1 + i % 3] AS device
              FROM made ORDER BY own
            ) TO '{folder / f"events-{part}.csv"}' (HEADER, DELIMITER ',')
            """
        )
    connection.close()


def write_items(folder: Path, events: int, seed: int) -> None:
    """`folder`/items.jsonl: item_id, title, description, categories of `items_of(events)` items.

    Of 1,000 items 50 have markup, 50 entities, 20 full-width letters, 10 control characters, 2 have
    no title, and 1 comes a second time.
    """
    items = items_of(events)
    words = ", ".join(f"'{word}'" for word in WORDS)
    connection = _connection(folder, seed)
    connection.execute(
        f"""
        COPY (
          WITH words AS (SELECT [{words}] AS words), made AS (
            SELECT i, chance(i, 20) AS dirt,
              array_to_string(list_transform(range(3 + i % 4), lambda j: words[1 + CAST(
                hash(i * 128 + j + {seed}) % {len(WORDS)} AS BIGINT)]), ' ') AS title,
              array_to_string(list_transform(range(15 + i % 40), lambda j: words[1 + CAST(
                hash(i * 128 + 64 + j + {seed}) % {len(WORDS)} AS BIGINT)]), ' ') AS body
            FROM range({items}) t(i), words
          ), twice AS (
            SELECT * FROM made UNION ALL SELECT * FROM made WHERE chance(i, 21) < 0.001
          )
          SELECT 'i' || i AS item_id,
            CASE WHEN dirt < 0.002 THEN '  ' ELSE title END AS title,
            CASE WHEN dirt < 0.05 THEN '<p>' || replace(body, ' for ', ' <b>for</b> ') || '</p>'
                 WHEN dirt < 0.10 THEN replace(body, ' and ', ' &amp; ')
                 WHEN dirt < 0.12 THEN 'Ｎｅｗ ' || body
                 WHEN dirt < 0.13 THEN body || chr(7)
                 ELSE body END AS description,
            [words[1 + i % 8], words[20 + i % 12]] AS categories
          FROM twice, words ORDER BY i
        ) TO '{folder / "items.jsonl"}' (FORMAT json)
        """
    )
    connection.close()


def _connection(folder: Path, seed: int) -> duckdb.DuckDBPyConnection:
    """With a macro `chance(row, salt)`, even between 0 and 1: the only source of chance here."""
    connection = duckdb.connect()
    connection.execute(f"SET temp_directory = '{folder / 'spill'}'")
    connection.execute("SET memory_limit = '2GB'")
    connection.execute(
        f"CREATE MACRO chance(row, salt) AS (hash(row * 64 + salt + {seed} * 1000003) >> 11) "
        f"/ {float(1 << 53)}"
    )
    return connection
