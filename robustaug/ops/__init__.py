"""Operators: what happens to data."""
