"""Answers that are packed although nobody asked for it: some servers do so whatever they are told."""

from __future__ import annotations

import zlib

LARGEST_PART = 32 * 1024 * 1024  # bytes that what came at once may be unpacked to
_GZIP_OR_ZLIB, _RAW = 47, -15  # as zlib numbers them
_LONGEST_HEAD = 2  # bytes, of what zlib and gzip are known by
_KNOWN = (b"gzip", b"x-gzip", b"deflate")
_UNKNOWN = (b"br", b"zstd", b"compress", b"x-compress")


class Unpacker:
    """Of one answer. Raises ValueError that says what is wrong."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
        self._begun = False
        self._head: bytes | None = b""  # what came while nothing came of it; None: it is known how this is packed

    @property
    def ended(self) -> bool:
        """Whether what was packed is here as a whole. Nothing is whole as well."""
        return not self._begun or self._stream.eof

    def feed(self, data: bytes) -> bytes:
        """What comes of what came."""
        out, size = [], 0
        while data:
            if self._stream.eof:  # gzip may be several, one behind the other
                self._stream = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
            out.append(self._unpack(data, LARGEST_PART - size))
            size += len(out[-1])
            if self._stream.unconsumed_tail or size >= LARGEST_PART:
                raise ValueError("the answer is too large when it is unpacked")
            data = self._stream.unused_data
        return b"".join(out)

    def _unpack(self, data: bytes, most: int) -> bytes:
        self._begun = True
        head = None if self._head is None else self._head + data
        try:
            out = self._stream.decompress(data, most)
        except zlib.error:
            if head is None:
                raise ValueError("the answer cannot be unpacked") from None
            out = self._unpack_raw(head, most)
            head = None
        self._head = None if out or head is None or len(head) > _LONGEST_HEAD else head
        return out

    def _unpack_raw(self, head: bytes, most: int) -> bytes:
        """What is called deflate has a head of its own or has none, which shows after its first bytes."""
        self._stream = zlib.decompressobj(wbits=_RAW)
        try:
            return self._stream.decompress(head, most)
        except zlib.error:
            raise ValueError("the answer cannot be unpacked") from None


def unpacker_for(coding: bytes) -> Unpacker | None:
    """For a content-encoding; None for one that changes nothing. Raises ValueError for one that cannot be unpacked."""
    coding = coding.strip().lower()
    if coding in _UNKNOWN or b"," in coding:
        raise ValueError("the answer is packed in a way that nobody asked for")
    return Unpacker() if coding in _KNOWN else None
