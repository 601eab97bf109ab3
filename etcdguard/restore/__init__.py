"""Restore: plan, preflight, stage, swap, gate, record."""
