"""What an answer says of the adapter that gave it: in headers, and for a merge in `usage`."""

from dataclasses import dataclass

import msgspec

from server.compose.resolve import Planned, Stored

# Proxies refuse large heads; what is longer is in `usage` alone.
_MAX_HEADER = 2000
_USAGE = b'"usage":'


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    """The artifact that answered a request, and what it was made of."""

    digest: str
    target: Stored | Planned
    new_slot: bool  # whether it was loaded into the engine for this request

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the answer."""
        values = {
            "x-weft-artifact": self.digest,
            "x-weft-slot": "new" if self.new_slot else "kept",
            "x-weft-ingredients": ", ".join(self.target.chosen),
            "x-weft-expression": self._expression,
        }
        return [
            (name.encode(), value.encode())
            for name, value in values.items()
            if value and value.isascii() and value.isprintable() and len(value) <= _MAX_HEADER
        ]

    @property
    def _expression(self) -> str:
        return self.target.expression if isinstance(self.target, Planned) else ""

    def in_usage(self, answer: bytes) -> bytes:
        """Return an answer, or an event of a stream, whose `usage` says what was merged."""
        # In a text every quote is escaped: only a key can read "usage":
        before, key, after = answer.partition(_USAGE)
        rest = after.lstrip()
        if not isinstance(self.target, Planned) or not key or rest[:1] != b"{":
            return answer
        merged = msgspec.json.encode({
            "artifact": self.digest, "expression": self._expression or None,
            "ingredients": list(self.target.chosen) or None, "new_slot": self.new_slot,
        })  # fmt: skip
        others = rest[1:].lstrip()
        comma = b"" if others[:1] == b"}" else b","
        return before + key + b'{"weft":' + merged + comma + others
