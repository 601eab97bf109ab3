"""What a repository holds for one cluster: layout, manifests, signatures, events, holds."""

from etcdguard.catalog.catalog import Backup, Catalog, Listing, Problem, Signature
from etcdguard.catalog.codec import decode_manifest, encode_manifest, manifest_digest

__all__ = [
    "Backup",
    "Catalog",
    "Listing",
    "Problem",
    "Signature",
    "decode_manifest",
    "encode_manifest",
    "manifest_digest",
]
