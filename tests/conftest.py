"""Puts this folder on sys.path (pytest does, for a conftest), so that tests share its modules."""
