"""etcdguard: encrypted, verified etcd backups and multi-member restore."""

__version__ = "0.1.0"

__all__ = ["__version__"]
