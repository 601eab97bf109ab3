"""Talking to etcd and reading its files."""
