"""Checks of what etcdguard depends on."""
