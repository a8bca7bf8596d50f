"""Reads the requests that a front forwards, and says of each where it is not strict HTTP/1.1 (RFC 9112).

It goes on reading where a message is not strict but still has one plausible end, so that the boundaries that a lenient
front makes can be compared. Nothing here knows who sent the bytes.
"""

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(TOKEN + rb" (?:/[!\"$-~]*|\*) HTTP/1\.1")
FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*((?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*")
DIGITS = re.compile(rb"[0-9]{1,40}")
# What an application may count in a signed integer, without taking a large length for a negative one.
LONGEST_BODY = (1 << 63) - 1
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
HEAD_END = re.compile(rb"\r?\n\r?\n")
# What must not stand in a trailer section: framing, routing, authentication, and what says how to handle content
# (RFC 9110 section 6.5.1).
FORBIDDEN_TRAILERS = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie expect"
    b" host keep-alive max-forwards proxy-authorization proxy-connection range te trailer transfer-encoding upgrade"
    b" x-forwarded-client-cert x_forwarded_client_cert".split()
)


@dataclass
class Message:
    """A request as it arrived; `complete` says whether its end did."""

    number: int
    method: bytes
    target: bytes
    body: bytes = b""
    complete: bool = False
    faults: list = field(default_factory=list)


class Reader:
    """Takes the bytes of one connection in pieces. `arrived` is called with each message whose end has come.

    With `wrong` it is wrong on purpose: it believes Content-Length where there is Transfer-Encoding as well, and loses the
    bodies of GET.
    """

    def __init__(self, arrived, numbers, wrong=False):
        self.arrived = arrived
        self.numbers = numbers
        self.wrong = wrong
        self.buffer = bytearray()
        self.message = None
        self.left = 0
        self.step = self.head

    def feed(self, data):
        """Reads as far as the bytes reach."""
        self.buffer += data
        while self.step():
            pass

    def is_between_messages(self):
        """Whether nothing of a message is here that has no end yet."""
        return self.message is None and not self.buffer

    def take(self, count):
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def fault(self, what):
        self.message.faults.append(what)

    def head(self):
        found = HEAD_END.search(self.buffer)
        if not found:
            return False
        lines = self.lines(self.take(found.end()))
        words = lines[0].split(b" ")
        self.message = Message(next(self.numbers), words[0], words[1] if len(words) > 1 else b"")
        if self.unclear_lines:
            self.fault("the head has lines that do not end with CRLF, or CR within them")
        if not REQUEST_LINE.fullmatch(lines[0]):
            self.fault(f"the request line is {lines[0]!r}")
        fields = self.fields(lines[1:])
        if len(fields.get(b"host", [])) != 1:
            self.fault("there is not one Host field")
        return self.framing(fields.get(b"content-length", []), fields.get(b"transfer-encoding", []))

    def lines(self, section):
        """The lines of a section that ends with an empty line, without their ends."""
        lines = section.split(b"\n")[:-1]
        stripped = [line[:-1] if line.endswith(b"\r") else line for line in lines]
        self.unclear_lines = any(not line.endswith(b"\r") or b"\r" in line[:-1] for line in lines)
        return stripped[: stripped.index(b"", 1)]

    def fields(self, lines):
        found = {}
        for line in lines:
            match = FIELD.fullmatch(line)
            if match:
                found.setdefault(match[1].lower(), []).append(match[2])
            else:
                self.fault(f"{line!r} is no field")
        return found

    def framing(self, lengths, codings):
        if len(lengths) > 1 or any(not DIGITS.fullmatch(length) or int(length) > LONGEST_BODY for length in lengths):
            self.fault(f"Content-Length is {lengths!r}")
        if codings and codings != [b"chunked"]:
            self.fault(f"Transfer-Encoding is {codings!r}")
        if codings and lengths:
            self.fault("there are both Content-Length and Transfer-Encoding")
        if codings and not (self.wrong and lengths):
            self.step = self.chunk_size
        elif lengths and DIGITS.fullmatch(lengths[0]):
            self.left, self.step = int(lengths[0]), self.body
        elif lengths:
            self.step = self.lost
        else:
            self.end()
        return True

    def body(self):
        self.message.body += (piece := self.take(self.left))
        self.left -= len(piece)
        if self.left == 0:
            self.end()
        return self.left == 0

    def chunk_size(self):
        end = self.buffer.find(b"\n")
        if end < 0:
            return False
        line = self.take(end + 1)
        if not line.endswith(b"\r\n") or not CHUNK_SIZE.fullmatch(line[:-2]):
            self.fault(f"a chunk begins with {line!r}")
        size = CHUNK_SIZE.match(line)
        self.left = int(size[0], 16) if size else 0
        self.step = self.lost if not size else self.chunk if self.left else self.trailers
        return True

    def chunk(self):
        if len(self.buffer) < self.left + 2:
            return False
        self.message.body += self.take(self.left)
        self.step = self.chunk_size
        if self.buffer.startswith(b"\r\n"):
            self.take(2)
        else:
            self.fault(f"behind a chunk comes {bytes(self.buffer[:2])!r}")
            self.step = self.lost
        return True

    def trailers(self):
        if self.buffer.startswith(b"\r\n"):
            self.take(2)
            self.end()
            return True
        found = HEAD_END.search(self.buffer)
        if not found:
            return False
        fields = self.fields(self.lines(self.take(found.end())))
        if self.unclear_lines:
            self.fault("the trailers have lines that do not end with CRLF, or CR within them")
        for name in sorted(FORBIDDEN_TRAILERS.intersection(fields)):
            self.fault(f"{name.decode()} is among the trailers")
        self.end()
        return True

    def end(self):
        message, self.message, self.step = self.message, None, self.head
        message.complete = True
        if self.wrong and message.method == b"GET":
            message.body = b""
        self.arrived(message)

    def lost(self):
        """Where the message ends cannot be told."""
        return False
