"""Talking to etcd and reading its files."""

import os

# gRPC reads it when it is first imported, and would write to stderr what we report ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
