"""Tests, one folder per package. `tests.oracle` is the second implementation of the numeric contract."""
