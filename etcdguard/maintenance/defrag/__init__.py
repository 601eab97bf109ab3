"""Defragmentation of a cluster's members: one after the other, with every guard (docs/defrag.md)."""
