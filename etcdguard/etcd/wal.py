"""Which member and cluster a data directory belongs to: read from, and written to, its write-ahead log.

A WAL segment is a row of frames: an 8-byte little-endian length word, then a protobuf record padded to 8
bytes. The low 56 bits of the word are the record's size; if the top bit is set, bits 56 to 58 count the
padding. Every segment begins with a record that carries the running CRC-32C of the segment before it, then
the metadata record with the two ids.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etcdguard.errors import Corruption, EtcdGuardError
from etcdguard.etcd.wire.fields import LENGTH_DELIMITED, VARINT, fields
from etcdguard.model import hex_id

__all__ = ["FIRST_SEGMENT", "WalMetadata", "first_segment", "parse_wal_head", "read_wal_metadata"]

FIRST_SEGMENT = "0000000000000000-0000000000000000.wal"
"""The file name etcd gives the first segment of a log."""

_SEGMENT = re.compile(r"^[0-9a-f]{16}-[0-9a-f]{16}\.wal$")
_HEAD_BYTES = 4096
"""Both records together take less than 100 bytes."""

_METADATA = 1
_CRC = 4
_SNAPSHOT = 5
_NO_SNAPSHOT = b"\x08\x00\x10\x00"
"""Index and term of the snapshot a log starts from, when it starts from nothing."""

_SIZE_MASK = (1 << 56) - 1
_PADDING = {0: 0} | {0x80 | count: count for count in range(1, 8)}
"""The length word's top byte to the bytes of padding."""

_HINT = "this is not the write-ahead log of a working etcd member; check the data directory"


@dataclass(frozen=True)
class WalMetadata:
    """The ids etcd will start with, as etcdctl prints them."""

    member_id: str
    cluster_id: str


@dataclass(frozen=True)
class _Record:
    kind: int
    crc: int
    data: bytes


def read_wal_metadata(wal_dir: Path) -> WalMetadata:
    """The ids in the oldest segment of ``wal_dir`` (``<data_dir>/member/wal`` unless ``--wal-dir`` is set).

    Reads one page at most. Raises Corruption when there is no segment or its head is not what etcd writes,
    and EtcdGuardError when the directory cannot be read.
    """
    try:
        segments = sorted(path for path in wal_dir.iterdir() if _SEGMENT.match(path.name))
        if not segments:
            raise Corruption(f"{wal_dir} holds no write-ahead log segment", hint=_HINT)
        with segments[0].open("rb") as segment:
            head = segment.read(_HEAD_BYTES)
    except OSError as e:
        raise EtcdGuardError(
            f"cannot read the write-ahead log in {wal_dir}: {e.strerror}",
            hint="check the path, and run as root or as the user etcd runs as",
        ) from e
    return parse_wal_head(head)


def parse_wal_head(head: bytes) -> WalMetadata:
    """The ids in the first bytes of a segment; raises Corruption for anything etcd would not have written."""
    try:
        return _metadata(_records(memoryview(head)))
    except (ValueError, struct.error, StopIteration) as e:
        why = str(e) or "it ends early"
        raise Corruption(f"the head of the write-ahead log is damaged: {why}", hint=_HINT) from e


def first_segment(ids: WalMetadata) -> bytes:
    """A log in which nothing has happened yet, as etcd itself begins one before it joins a cluster.

    Started on it, etcd is that member and learns everything else from the others, whatever its
    ``--initial-cluster*`` flags say.
    """
    metadata = b"\x08" + _varint(int(ids.member_id, 16)) + b"\x10" + _varint(int(ids.cluster_id, 16))
    metadata_crc = _crc32c(metadata, 0)
    return (
        _framed(_CRC, 0, None)
        + _framed(_METADATA, metadata_crc, metadata)
        + _framed(_SNAPSHOT, _crc32c(_NO_SNAPSHOT, metadata_crc), _NO_SNAPSHOT)
    )


def _framed(kind: int, crc: int, data: bytes | None) -> bytes:
    record = b"\x08" + _varint(kind) + b"\x10" + _varint(crc)
    if data is not None:
        record += b"\x1a" + _varint(len(data)) + data
    padding = -len(record) % 8
    word = len(record) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", word) + record + bytes(padding)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _metadata(records: Iterator[_Record]) -> WalMetadata:
    first = next(records)
    if first.kind != _CRC or first.data:
        raise ValueError("it does not begin with a checksum record")
    second = next(records)
    if second.kind != _METADATA:
        raise ValueError("the second record is not the metadata")
    if second.crc != _crc32c(second.data, first.crc):
        raise ValueError("the metadata record does not match its checksum")
    ids = _varints(second.data)
    member_id, cluster_id = ids.get(1, 0), ids.get(2, 0)
    if not member_id or not cluster_id:
        raise ValueError("an id is missing")
    return WalMetadata(hex_id(member_id), hex_id(cluster_id))


def _records(head: memoryview) -> Iterator[_Record]:
    position = 0
    while True:
        (word,) = struct.unpack_from("<Q", head, position)
        size, padding = word & _SIZE_MASK, _PADDING.get(word >> 56)
        start = position + 8
        if not size or padding is None or (size + padding) % 8 or size + padding > len(head) - start:
            raise ValueError("a record's length is impossible")
        position = start + size + padding
        if any(head[start + size : position]):
            raise ValueError("a record's padding is not empty")
        yield _record(head[start : start + size])


def _record(data: memoryview) -> _Record:
    kind = crc = 0
    payload = b""
    for number, wire_type, value in fields(data):
        if number == 1 and wire_type == VARINT and isinstance(value, int):
            kind = value
        elif number == 2 and wire_type == VARINT and isinstance(value, int):
            crc = value
        elif number == 3 and wire_type == LENGTH_DELIMITED and isinstance(value, memoryview):
            payload = bytes(value)
        else:
            raise ValueError(f"a record has an unknown field {number}")
    return _Record(kind, crc, payload)


def _varints(data: bytes) -> dict[int, int]:
    return {number: value for number, _, value in fields(memoryview(data)) if isinstance(value, int)}


def _crc_table() -> tuple[int, ...]:
    castagnoli = 0x82F63B78
    table = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (castagnoli if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


_TABLE = _crc_table()


def _crc32c(data: bytes, previous: int) -> int:
    crc = previous ^ 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
