"""Rows of the offline tables into an online store: only what changed, and never older over newer.

encode: columns as Feast's bytes. changes: what is the latest, and what of it is new. state: what
is known to be in a store. live: events that came in meanwhile. run: a view, all of it together.
"""
