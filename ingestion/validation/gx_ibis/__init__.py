"""Great Expectations on Ibis: core expectations run where Ibis does, nothing goes through pandas.

An execution engine, the metrics that it can compute, and a data source of Ibis tables. Importing
a module of this package imports Great Expectations, which takes seconds.
"""
