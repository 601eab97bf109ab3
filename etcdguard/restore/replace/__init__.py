"""Replacing one lost member of a cluster that still has its quorum."""
