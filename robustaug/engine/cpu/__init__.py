"""The CPU: loops compiled by Numba."""
