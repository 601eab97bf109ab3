"""Everything that parses bytes from elsewhere, each with bytes that it takes.

From an object store, a member of the cluster, another host, or a person's editor: whatever they are, a parser
answers with what it read or with an EtcdGuardError. Fuzzers start from here.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zstandard
from pydantic import SecretStr

from etcdguard.catalog.codec import decode_manifest, encode_manifest
from etcdguard.config import parse
from etcdguard.crypto.age import Decryptor, Encryptor
from etcdguard.crypto.recipients import generate_identity
from etcdguard.crypto.scrypt import ScryptIdentity, ScryptRecipient
from etcdguard.errors import EtcdGuardError
from etcdguard.etcd.bolt import parse_bucket, parse_leaf
from etcdguard.etcd.exchange import CallFailed, Exchange
from etcdguard.etcd.metrics import parse_page
from etcdguard.etcd.page_index import PageIndex
from etcdguard.etcd.stream import parse_frame
from etcdguard.etcd.wal import WalMetadata, first_segment, parse_wal_head
from etcdguard.fetch import open_plain
from etcdguard.hold import Keeper
from etcdguard.model import Manifest, ObjectEntry
from etcdguard.restore.plan import read_plan, write_plan
from etcdguard.restore.steps import (
    StepAnswer,
    StepError,
    StepProgress,
    StepRequest,
    answer_bytes,
    progress_bytes,
    read_answer,
    read_progress,
    read_request,
    request_bytes,
)
from etcdguard.slots import slot_id
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, START, Node, catalog_of, database
from tests.support.bolt_writer import Shape, revision_key, with_trailer, write_database
from tests.support.grpc_answers import PATH, Answering, feed, message
from tests.unit.restore.test_planner import plan_of

__all__ = ["PARSERS", "Parser"]

_IDENTITY = generate_identity()
_PASSPHRASE = "not a secret"
_SLOT = slot_id(START)


@dataclass(frozen=True)
class Parser:
    """``read`` raises EtcdGuardError (or what it ``refuses`` with) at worst; ``sample`` is what it takes."""

    read: Callable[[bytes], object]
    sample: Callable[[], bytes]
    refuses: type[Exception] = EtcdGuardError

    def survives(self, data: bytes) -> bool:
        """Whether it took the bytes; any other exception comes through."""
        try:
            self.read(data)
        except self.refuses as caught:
            error = caught
        else:
            return True
        assert not isinstance(error, EtcdGuardError) or (error.message and error.hint)
        return False


def _sealed(passphrase: bool) -> bytes:
    recipient = ScryptRecipient(_PASSPHRASE, log_n=2) if passphrase else _IDENTITY.recipient
    encryptor = Encryptor([recipient])
    return encryptor.start() + encryptor.update(bytes(70_000)) + encryptor.finish()


def _open(passphrase: bool, data: bytes) -> None:
    identity = ScryptIdentity(_PASSPHRASE, max_log_n=6) if passphrase else _IDENTITY
    decryptor = Decryptor([identity])
    decryptor.update(data)
    decryptor.finish()


@functools.cache
def _stored() -> tuple[MemoryStore, Manifest]:
    """A backup that is not encrypted."""
    store = MemoryStore("m")
    with tempfile.TemporaryDirectory() as name:
        node = Node(Path(name) / "spool", options={"recipients": []})
        manifest = node.backup(20, store).delivery.manifest
    assert manifest is not None
    return store, manifest


def _fetch(data: bytes) -> None:
    """As if the store had had these bytes from the beginning: only the frames can tell."""
    store, manifest = MemoryStore("m"), _stored()[1]
    entry = ObjectEntry(key=manifest.objects[0].key, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    layout = catalog_of(store).layout
    store.put(layout.absolute(entry.key), data)
    for _ in open_plain(store, layout, manifest.model_copy(update={"objects": (entry,)}), []):
        pass


def _exchange() -> Exchange:
    return Exchange("etcd.test:2379", PATH, b"", (), secure=False)


def _answer(data: bytes) -> None:
    exchange = _exchange()
    feed(exchange, data)
    exchange.finish()


def _answer_sample() -> bytes:
    return Answering(_exchange().to_send()).frames(message(b"\x1a\x03abc")).trailers().sent


def _index(data: bytes) -> None:
    index = PageIndex(check_order=True, budget=1 << 20)
    index.update(data)
    index.finish()


def _database() -> bytes:
    elements = [(revision_key(number), b"value") for number in range(2, 60)]
    return write_database(elements, {b"consistent_index": bytes(8)}, Shape(leaf_fanout=9, inline_meta=False))


def _slot(data: bytes) -> None:
    store = MemoryStore("m")
    catalog = catalog_of(store)
    store.put(catalog.layout.slot(_SLOT), data)
    catalog.ledger.decision(_SLOT)


def _slot_sample() -> bytes:
    store = MemoryStore("m")
    catalog = catalog_of(store)
    catalog.ledger.decide(_SLOT, _stored()[1].id, node="n", at=START)
    return b"".join(store.get(catalog.layout.slot(_SLOT)))


def _holds(data: bytes) -> None:
    store = MemoryStore("m")
    catalog = catalog_of(store)
    store.put(catalog.layout.hold(_stored()[1].id), data)
    Keeper(catalog, None).list()


def _config(data: bytes) -> None:
    parse(data.decode("utf-8", "replace"), Path("/etc/etcdguard/config.yaml"))


def _metrics(data: bytes) -> None:
    parse_page(data.decode("utf-8", "replace")).histogram("etcd_disk_wal_fsync_duration_seconds")


_ERROR = StepError(exit_code=15, message="m", hint="h")

PARSERS: dict[str, Parser] = {
    "age file": Parser(lambda data: _open(False, data), lambda: _sealed(False)),
    "age file, passphrase": Parser(lambda data: _open(True, data), lambda: _sealed(True)),
    "manifest": Parser(
        lambda data: decode_manifest(data, _stored()[1].id), lambda: encode_manifest(_stored()[1])
    ),
    "slot": Parser(_slot, _slot_sample),
    "hold": Parser(_holds, lambda: b'{"format": "etcdguard-hold/1", "reason": "r", "at": "t", "actor": "a"}'),
    "zstd frames": Parser(_fetch, lambda: zstandard.compress(with_trailer(database(20)))),
    "configuration": Parser(
        _config,
        lambda: f"cluster:\n  name: {CLUSTER}\nencryption:\n  recipients: [{_IDENTITY.recipient}]\n".encode(),
    ),
    "bbolt file": Parser(_index, _database),
    "bbolt leaf": Parser(parse_leaf, lambda: _database()[2 * 4096 : 3 * 4096]),
    "bbolt bucket": Parser(parse_bucket, lambda: bytes(16) + _database()[2 * 4096 : 3 * 4096]),
    "WAL head": Parser(parse_wal_head, lambda: first_segment(WalMetadata("a1", "c1"))),
    "gRPC answer": Parser(_answer, _answer_sample, CallFailed),
    "snapshot message": Parser(parse_frame, lambda: b"\x10\x05\x1a\x03abc", ValueError),
    "node request": Parser(
        read_request,
        lambda: request_bytes(
            StepRequest(version="1", step="status", members=("m1",), identities=(SecretStr("x"),))
        ),
    ),
    "node answer": Parser(
        read_answer,
        lambda: answer_bytes(StepAnswer(version="1", ok=False, findings=(_ERROR,), error=_ERROR)),
    ),
    "node progress": Parser(
        read_progress, lambda: progress_bytes(StepProgress(progress="fetch", bytes=1, total_bytes=2))
    ),
    "restore plan": Parser(read_plan, lambda: write_plan(plan_of())),
    "metrics": Parser(
        _metrics, lambda: b'# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 3\n', ValueError
    ),
}
"""By what they parse."""
