"""Frames of `application/vnd.amazon.eventstream`, as Bedrock streams send them.

Source: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html
"""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_STRING_HEADER = 7
_PRELUDE_BYTES = 12
_CHECKSUM_BYTES = 4


def event_frame(name: str, payload: Mapping[str, Any]) -> bytes:
    """Return the frame of one event, such as `contentBlockDelta`, with a JSON payload."""
    return _frame({":event-type": name, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception_frame(name: str, message: str) -> bytes:
    """Return the frame that ends a stream with a modelled exception, such as `throttlingException`."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return _frame(headers, {"message": message})


def _frame(headers: Mapping[str, str], payload: Mapping[str, Any]) -> bytes:
    head = b"".join(_header(name, value) for name, value in headers.items())
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", _PRELUDE_BYTES + len(head) + len(body) + _CHECKSUM_BYTES, len(head))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    frame = prelude + head + body
    return frame + struct.pack("!I", zlib.crc32(frame))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack("!B", len(key)) + key + struct.pack("!BH", _STRING_HEADER, len(text)) + text
