"""The snapshot stream: messages in, bytes of about 1 MiB out, and proof that nothing is missing."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType

from etcdguard.errors import Corruption, EtcdGuardError, SnapshotFailed
from etcdguard.etcd.source import StreamLimits
from etcdguard.etcd.wire.fields import LENGTH_DELIMITED, VARINT, fields
from etcdguard.pace import Pace

__all__ = ["Frames", "SnapshotStream", "TRAILER_BYTES", "TrailerCheck", "parse_frame"]

TRAILER_BYTES = 32
"""A sha256 of everything before it, which etcd sends as the last message."""

_PAGE_UNIT = 512
"""Every bbolt page size is a multiple of it."""

_PIECE_BYTES = 1 << 20
_MOST_EMPTY_FRAMES = 64
_RETRY_HINT = "run the backup again; if it fails again, try another member with --endpoint"


Frames = Callable[[Callable[[], float]], Generator[bytes | memoryview, None, None]]
"""Makes a Snapshot call when iterated: its messages as they came, errors already translated.

It asks what it is given before it waits for the member: so many seconds that may take, then it asks again. An
error that the answer is instead ends the call, and so does closing the iteration.
"""


class TrailerCheck:
    """Proves that a snapshot is whole: its last 32 bytes are the sha256 of everything before them.

    Feed every byte in order; hashing is the only cost. Serves live streams and stored backups alike. With
    ``hashing=False`` it only cuts the trailer off and checks the size, for whoever leaves the rest to others.
    """

    def __init__(self, *, hashing: bool = True) -> None:
        self._digest = hashlib.sha256() if hashing else None
        self._held = b""
        self._fed = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes; large pieces are not copied."""
        view = memoryview(data)
        self._fed += len(view)
        if len(view) >= TRAILER_BYTES:
            self._hash(self._held)
            self._hash(view[:-TRAILER_BYTES])
            self._held = bytes(view[-TRAILER_BYTES:])
        else:
            joined = self._held + bytes(view)
            self._hash(joined[:-TRAILER_BYTES])
            self._held = joined[-TRAILER_BYTES:]

    def finish(self) -> tuple[int, str]:
        """The database's bytes and what the trailer says is its sha256 (hex); raises Corruption otherwise."""
        db_bytes = self._fed - TRAILER_BYTES
        if db_bytes <= 0 or db_bytes % _PAGE_UNIT:
            raise Corruption(
                f"{self._fed} bytes are not a whole etcd snapshot with its sha256 trailer",
                hint="the snapshot was cut short or is something else; take or choose another backup",
            )
        if self._digest is not None and self._digest.digest() != self._held:
            raise Corruption(
                "the snapshot does not match its sha256 trailer",
                hint="bytes changed after etcd read them; take or choose another backup",
            )
        return db_bytes, self._held.hex()

    def _hash(self, data: bytes | memoryview) -> None:
        if self._digest is not None:
            self._digest.update(data)


class SnapshotStream:
    """One member's snapshot as a ``BlobStream``.

    Read in the thread that takes the pieces (docs/adr/0012-the-snapshot-stream-past-grpc.md).
    """

    def __init__(self, frames: Frames, endpoint: str, limits: StreamLimits) -> None:
        self._frames = frames(self._patience)
        self._endpoint = endpoint
        self._limits = limits
        self._account = _Account(limits.max_bytes)
        self._pace = Pace(limits.max_rate)
        self._last_byte = 0.0
        self._ends_at = math.inf

    @property
    def announced_bytes(self) -> int | None:
        """Size of the whole stream in bytes, trailer included; None until the first piece has arrived."""
        return self._account.announced

    def __enter__(self) -> SnapshotStream:
        self._last_byte = time.monotonic()
        if self._limits.deadline is not None:
            self._ends_at = self._last_byte + self._limits.deadline
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._frames.close()

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._pieces():
                self._pace.take(len(piece))
                yield piece
        except EtcdGuardError as error:
            self._broken(error)
            raise

    def _pieces(self) -> Iterator[bytes]:
        waiting: list[memoryview] = []
        size = 0
        for frame in self._frames:
            blob = self._account.accept(frame)
            if blob:
                self._last_byte = time.monotonic()
                waiting.append(blob)
                size += len(blob)
            if size >= _PIECE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
                self._last_byte = time.monotonic()  # the member has waited for us, not we for it
        self._account.finish()
        yield b"".join(waiting)

    def _patience(self) -> float:
        """Seconds until a limit is reached; raises SnapshotFailed when one has been."""
        now = time.monotonic()
        stalled_in = self._last_byte + self._limits.stall_timeout - now
        if stalled_in <= 0:
            raise SnapshotFailed(
                f"it stalled: no data for {self._limits.stall_timeout:g} s",
                hint="check the member's load and disk, or try another member with --endpoint",
            )
        if now >= self._ends_at:
            raise SnapshotFailed(
                f"it was not complete after {self._limits.deadline:g} s",
                hint="check the member's load and the network, or allow the backup more time",
            )
        return min(stalled_in, self._ends_at - now)

    def _broken(self, error: EtcdGuardError) -> None:
        """Whatever breaks after the first byte is a failed snapshot: raise it as one."""
        received = self._account.received
        if not isinstance(error, SnapshotFailed) and not received:
            return
        message = error.message.removeprefix(f"{self._endpoint}: ")
        after = f" (after {received} bytes)" if received else ""
        raise SnapshotFailed(
            f"{self._endpoint}: the snapshot failed: {message}{after}",
            hint=error.hint if isinstance(error, SnapshotFailed) else _RETRY_HINT,
        ) from error


class _Account:
    """Holds a stream to what its first message announced."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._empty = 0
        self.announced: int | None = None
        self.received = 0

    def accept(self, frame: bytes | memoryview) -> memoryview:
        """The blob in ``frame``; raises SnapshotFailed when the stream cannot be what etcd sends."""
        try:
            remaining, blob = parse_frame(frame)
        except ValueError as e:
            raise SnapshotFailed(f"a message is malformed: {e}", hint=_RETRY_HINT) from e
        if self.announced is None:
            self.announced = self._checked(len(blob) + remaining + TRAILER_BYTES)
        self.received += len(blob)
        self._empty = 0 if blob else self._empty + 1
        if self.received > self.announced:
            raise SnapshotFailed(f"more than the announced {self.announced} bytes came", hint=_RETRY_HINT)
        if self._empty > _MOST_EMPTY_FRAMES:
            raise SnapshotFailed("the messages are empty", hint=_RETRY_HINT)
        return blob

    def finish(self) -> None:
        """Raise SnapshotFailed when less came than announced: etcd can end a failed stream without a word."""
        if self.announced is None or self.received < self.announced:
            raise SnapshotFailed(
                f"it ended early, {self.announced or 0} bytes were announced", hint=_RETRY_HINT
            )

    def _checked(self, size: int) -> int:
        if size > self._max_bytes:
            raise SnapshotFailed(
                f"{size} bytes were announced, the limit is {self._max_bytes}",
                hint="check the database's size with etcdctl endpoint status; raise the limit if it is right",
            )
        return size


def parse_frame(frame: bytes | memoryview) -> tuple[int, memoryview]:
    """``(remaining_bytes, blob)`` of one SnapshotResponse; the blob is a view into ``frame``.

    Fields that other versions add (the header, since 3.6 the storage version) are passed over. Raises
    ValueError for anything malformed.
    """
    remaining: int | None = None
    blob: memoryview | None = None
    for number, wire_type, value in fields(memoryview(frame)):
        if number == 2:
            if wire_type != VARINT or not isinstance(value, int) or remaining is not None:
                raise ValueError("remaining_bytes is not one number")
            remaining = value
        elif number == 3:
            if wire_type != LENGTH_DELIMITED or not isinstance(value, memoryview) or blob is not None:
                raise ValueError("blob is not one byte string")
            blob = value
    return remaining or 0, memoryview(b"") if blob is None else blob
