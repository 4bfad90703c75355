"""Buying one task, at most once."""
