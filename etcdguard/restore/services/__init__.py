"""Stopping and starting etcd, and what uses it, on a member's host."""

from etcdguard.restore.services.base import CommandResult, CommandRunner, Patience, Service, run_command
from etcdguard.restore.services.node import NodeServices, Surroundings, services_for
from etcdguard.restore.services.systemd import Kubelet

__all__ = [
    "CommandResult",
    "CommandRunner",
    "Kubelet",
    "NodeServices",
    "Patience",
    "Service",
    "Surroundings",
    "run_command",
    "services_for",
]
