"""Makes streams of requests: well-formed HTTP/1.1, and then tricks that parsers have disagreed on.

A stream depends on a seed and its number alone. Each ends with a well-formed request, the sentinel: whoever sees it as a
request of its own has found the ends of all others. Every target carries the stream's number, so that what arrives late is
not taken for a part of another stream.
"""

import random
from dataclasses import dataclass, field

CRLF = b"\r\n"
TRICKS = []
# Names of tricks that have nothing to do with where a request ends.
CLEAR = {"connect", "expects", "field_unusual", "host_odd", "length_unusual", "coding_unusual", "target_form", "upgrade"}
METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"REPORT"]


@dataclass
class Chunk:
    """One chunk, in the pieces that tricks exchange."""

    size: bytes
    data: bytes
    size_end: bytes = CRLF
    data_end: bytes = CRLF


@dataclass
class Request:
    """A request in the pieces that tricks exchange. `body` is what a right reader gets."""

    stream: int
    method: bytes
    target: bytes
    fields: list
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    framing: list = field(default_factory=list)
    chunks: list = None
    last: Chunk = None
    trailers: list = field(default_factory=list)
    line: bytes = None
    line_end: bytes = CRLF
    head_end: bytes = CRLF
    before: bytes = b""

    def wire(self):
        line = self.line if self.line is not None else b" ".join([self.method, self.target, self.version])
        lines = [line, *self.fields, *self.framing]
        return self.before + b"".join(line + self.line_end for line in lines) + self.head_end + self.payload()

    def payload(self):
        """The body as it is framed."""
        if self.chunks is None:
            return self.body
        pieces = [c.size + c.size_end + c.data + c.data_end for c in self.chunks]
        pieces += [self.last.size, self.last.size_end, *(line + self.line_end for line in self.trailers)]
        return b"".join(pieces) + self.last.data_end

    def with_length(self, rng):
        """Frames the body by its length."""
        self.body = self.body or content(rng, self.stream)
        self.chunks = self.last = None
        self.trailers = []
        self.framing = [b"Content-Length: %d" % len(self.body)]
        return len(self.body)

    def with_chunks(self, rng):
        """Frames the body in chunks."""
        self.body = self.body or content(rng, self.stream)
        at = sorted({0, len(self.body), *(rng.randrange(len(self.body)) for _ in range(rng.randrange(3)))})
        parts = [self.body[start:end] for start, end in zip(at, at[1:])]
        self.chunks = [Chunk(b"%x" % len(part), part) for part in parts]
        self.last = Chunk(b"0", b"")
        self.framing = [b"Transfer-Encoding: chunked"]


@dataclass
class Stream:
    """What is sent on one connection."""

    number: int
    requests: list
    wire: bytes
    tricks: list
    # The place of the request that must not be forwarded whole, if it is certain that there is one.
    refused: int = None

    def has_clear_ends(self):
        """Whether no trick concerns where requests end, so that they end where they were written to."""
        return CLEAR.issuperset(self.tricks)


def content(rng, stream):
    """A body. Often it looks like what could stand behind one, so that a wrong end shows."""
    smuggled = b"GET /smuggled?s=%d HTTP/1.1\r\nHost: a.test\r\n\r\n" % stream
    return rng.choice([b"hello", b"a" * 40, smuggled, b"0\r\n\r\n" + smuggled, b"5\r\nhello\r\n0\r\n\r\n", b"\r\n\r\n", b"\0\xff\n"])


def well_formed(rng, stream, place):
    path = b"/m%d%s?s=%d" % (place, rng.choice([b"", b"/a", b"/a/b.c"]), stream)
    fields = [b"Host: a.test", b"X-Place: %d" % place]
    fields += rng.sample([b"Accept: */*", b"X-Empty:", b"x-spaces:  a\tb \t", b"Cookie: a=1; b=2", b"X-High: \xe9"], rng.randrange(3))
    rng.shuffle(fields)
    request = Request(stream, rng.choice(METHODS), path, fields)
    framing = rng.randrange(4)
    if framing == 1:
        request.with_length(rng)
    elif framing == 2:
        request.with_chunks(rng)
        if rng.randrange(3) == 0:
            request.trailers = [b"X-Checksum: 1", b"Grpc-Status: 0"][: rng.randrange(1, 3)]
        if rng.randrange(3) == 0:
            for chunk in request.chunks:
                chunk.size = rng.choice([b"00", b""]) + chunk.size.upper() + rng.choice([b";a", b";a=b", b';a="b c"', b""])
    elif framing == 3:
        request.framing = [b"Content-Length: 0"]
    return request


def make(seed, number):
    """Stream `number` of a seed."""
    rng = random.Random(f"{seed}/{number}")
    requests = [well_formed(rng, number, place) for place in range(rng.randrange(1, 4))]
    count = rng.choices([0, 1, 2, 3], [10, 60, 20, 10])[0]
    names, refused = [], None
    for trick in rng.choices(TRICKS, k=count):
        place = rng.randrange(len(requests))
        must_refuse = trick(requests[place], rng)
        names.append(trick.__name__)
        if must_refuse and count == 1:
            refused = place
    path = b"/sentinel?s=%d" % number
    requests.append(Request(number, b"GET", path, [b"Host: a.test", b"Connection: close"]))
    wires = [request.wire() for request in requests]
    if count and rng.randrange(6) == 0:
        names.append("noise")
        refused = None
        place = rng.randrange(len(wires) - 1)
        wires[place] = noise(wires[place], rng)
    return Stream(number, requests, b"".join(wires), names, refused)


def noise(wire, rng):
    """A few bytes more, fewer or others."""
    wire = bytearray(wire)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(wire))
        piece = rng.choice([b"\r", b"\n", CRLF, b"\0", b" ", b"\t", b":", b";", b",", b"0", b"\x0b", b"\x7f", b"\x80", b"%", b"#"])
        wire[at : at + rng.randrange(2)] = piece * rng.randrange(2)
    return wire


# Tricks. Each changes one request, and returns True if by the rules of this project it must not be forwarded as a whole
# (RFC 9112 sections 2.2, 3, 5, 6, 7.1). With None it may be, as long as its end is where others see it.


def trick(function):
    """Puts a function on the list of tricks."""
    TRICKS.append(function)
    return function


@trick
def length_repeated(request, rng):
    length = request.with_length(rng)
    other = rng.choice([0, 1, length - 1, length + 1, length + 30])
    values = rng.choice([(length, length), (length, other), (other, length)])
    if rng.randrange(3) == 0:
        request.framing = [b"Content-Length: %d, %d" % values]
    else:
        request.framing = [b"Content-Length: %d" % value for value in values]
    return values[0] != values[1] or None


@trick
def length_malformed(request, rng):
    length = request.with_length(rng)
    value = rng.choice(
        [b"+N", b"-N", b"0xN", b"N.0", b"N;", b"N,", b",N", b"N a", b"N N", b"'N'", b"Ne0", b"N\0", b"N\x0c", b"N\xa0", b"\x0bN", b""]
        + [b"1844674407370955161N", b"18446744073709551616N", b"999999999999999999999N", b"-0"]
    )
    request.framing = [b"Content-Length: " + value.replace(b"N", b"%d" % length)]
    return True


@trick
def length_unusual(request, rng):
    length = request.with_length(rng)
    request.framing = [rng.choice([b"content-length:%d", b"Content-Length:\t %d \t", b"CONTENT-LENGTH: 00%d", b"Content-Length: %020d"]) % length]


@trick
def length_other(request, rng):
    length = request.with_length(rng)
    request.framing = [b"Content-Length: %d" % rng.choice([0, 1, length - 1, length + 1, length + 20, length + 400])]


@trick
def both_framings(request, rng):
    request.with_chunks(rng)
    length = rng.choice([0, 4, 5, len(request.payload()), len(request.payload()) + 20, len(request.body)])
    request.framing.insert(rng.randrange(2), b"Content-Length: %d" % length)


@trick
def coding_other(request, rng):
    request.with_chunks(rng)
    value = rng.choice(
        [b"gzip", b"identity", b"gzip, chunked", b"chunked, gzip", b"identity, chunked", b"chunked, identity", b"chunked, chunked"]
        + [b"xchunked", b"chunkedx", b"chunked;q=1", b'"chunked"', b"chunked,", b",chunked", b"chunked ;", b"chu nked", b"chunked\0"]
        + [b"\x0bchunked", b"chunked\x0b", b"chunked\x0c", b"chunked\x85", b"\xa0chunked", b"", b"x", b"cow", b"chunked\r", b"chunk"]
    )
    request.framing = [b"Transfer-Encoding: " + value]
    if rng.randrange(2):
        request.framing.insert(rng.randrange(2), b"Content-Length: %d" % rng.choice([0, 4, len(request.payload())]))
    return True


@trick
def coding_repeated(request, rng):
    request.with_chunks(rng)
    other = rng.choice([b"chunked", b"identity", b"gzip", b"", b"x"])
    request.framing.insert(rng.randrange(2), rng.choice([b"Transfer-Encoding", b"transfer-encoding"]) + b": " + other)
    return True


@trick
def coding_unusual(request, rng):
    request.with_chunks(rng)
    request.framing = [rng.choice([b"transfer-encoding:chunked", b"Transfer-Encoding:\t chunked \t", b"TRANSFER-ENCODING: CHUNKED", b"Transfer-Encoding: cHuNkEd"])]


@trick
def framing_in_disguise(request, rng):
    """The name or the line of a framing field is not quite one."""
    if rng.randrange(2):
        request.with_chunks(rng)
    else:
        request.with_length(rng)
    name, value = request.framing[0].split(b": ")
    good = [b"Content-Length: %d" % rng.choice([0, 4, len(request.payload())])] if rng.randrange(3) == 0 else []
    certain = [b"%s : %s", b"%s\t: %s", b" %s: %s", b"\t%s: %s", b"%s\0: %s", b"\0%s: %s", b"%s:\r\n %s", b"%s\r\n: %s", b"X: a\r%s: %s"]
    certain += [b"%s %s", b"%s; %s", b"X: a\r\n %s: %s", b"\x0b%s: %s", b"%s\x0b: %s", b"%s\xa0: %s", b"\r%s: %s", b"(%s): %s", b"%s: \0%s"]
    unclear = [b"X: a\n%s: %s", b"X-%s: %s", b"%s:\n%s", b"%s-: %s", b"X: a\n\n%s: %s"]
    form = rng.choice(certain + unclear)
    request.framing = good + [form % (name.replace(b"-", b"_") if rng.randrange(8) == 0 else name, value)]
    return form in certain or None


@trick
def underscore(request, rng):
    request.with_chunks(rng)
    request.framing = [request.framing[0].replace(b"-", b"_"), b"Content-Length: %d" % rng.choice([0, len(request.payload())])]


@trick
def version_other(request, rng):
    request.version = rng.choice([b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/01.1", b"http/1.1", b"HTTP/1.10", b"HTTP/1,1", b"HTTP/1.1 ", b"HTTP/1.", b"HTP/1.1", b"HTTP/1.1\0"])
    return True


@trick
def version_old(request, rng):
    request.version = b"HTTP/1.0"
    chunked = request.chunks is not None
    if rng.randrange(2):
        request.with_chunks(rng)
        chunked = True
        if rng.randrange(2):
            request.framing.append(b"Content-Length: %d" % len(request.payload()))
    if rng.randrange(2):
        request.fields.append(b"Connection: keep-alive")
    return chunked or None


@trick
def version_none(request, rng):
    request.line = rng.choice([b"GET %s", b"GET  %s", b"%s", b"GET %s "]) % request.target


@trick
def request_line(request, rng):
    parts = request.method, request.target, request.version
    certain = [b"%s\t%s %s", b" %s %s %s", b"%s %s\t%s", b"%s \0%s %s", b"%s %s\0 %s", b"%s %s\r%s", b"\0%s %s %s", b"%s: %s %s"]
    certain += [b"(%s) %s %s", b"%s %s x %s", b"%s %s %s x", b"%s\x0b%s %s"]
    unclear = [b"%s  %s %s", b"%s %s  %s", b"%s %s %s ", b"%s %s %s\t", b"%s %s\x80 %s", b'%s %s" %s', b"%s %s| %s", b"%s %s# %s"]
    form = rng.choice(certain + unclear)
    request.line = form % parts
    return form in certain or None


@trick
def before_request(request, rng):
    request.before = rng.choice([CRLF, CRLF * 3, b"\n", b"\r", b"\n\n", b" ", b"\t", b"\0", b"\r\r\n", b" \r\n"])


@trick
def target_form(request, rng):
    form = rng.choice([b"http://a.test%s", b"HTTP://a.test%s", b"https://a.test%s", b"http://b.test%s", b"http://u@a.test%s", b"a.test%s", b"*", b"//a.test%s", b"http:%s"])
    request.target = form % request.target if b"%" in form else form


@trick
def connect(request, rng):
    request.method, request.target = b"CONNECT", rng.choice([b"a.test:443", request.target])
    return True


@trick
def bare_line_feeds(request, rng):
    if rng.randrange(2):
        request.line_end = b"\n"
    if rng.randrange(2):
        request.head_end = b"\n"


@trick
def line_end_odd(request, rng):
    request.line_end = rng.choice([b"\r", b"\r\r\n", b"\n\r"])


@trick
def head_end_odd(request, rng):
    request.head_end = rng.choice([b"\r", b"\r\r\n", b"\n\r\n", b"\n\n", b" \r\n", b"\t\r\n", b"\0\r\n", b""])


@trick
def folded(request, rng):
    line = rng.choice([b"X-Folded: a\r\n b", b"X-Folded: a\r\n\tb", b"X-Folded:\r\n a", b"X-Folded: a\r\n \r\n b", b"X: a\r\n Transfer-Encoding: chunked", b"X: a\r\n\tContent-Length: 3"])
    request.fields.insert(rng.randrange(len(request.fields) + 1), line)
    return True


@trick
def field_malformed(request, rng):
    line = rng.choice(
        [b"X", b": a", b"X Y: a", b"X : a", b"X: a\0b", b"X: a\rb", b"X\x7f: a", b"X\xe9: a", b"X\x01: a", b"X: a\x7f", b"X: \x01a", b"\0", b" ", b"X@: a"]
        + [b"X[]: a", b"(X): a", b'"X": a', b"X{: a"]
    )
    request.fields.insert(rng.randrange(len(request.fields) + 1), line)
    return True


@trick
def field_unusual(request, rng):
    line = rng.choice([b"X: \xff\x80", b"X:a:b", b"X:", b"X: \t ", b"!#$%&'*+-.^_`|~: a", b"X: " + b"a" * 3000])
    request.fields.insert(rng.randrange(len(request.fields) + 1), line)


@trick
def host_odd(request, rng):
    request.fields.remove(b"Host: a.test") if b"Host: a.test" in request.fields else None
    request.fields += rng.choice([[], [b"Host: a.test", b"Host: a.test"], [b"Host: a.test", b"Host: b.test"], [b"Host:"], [b"Host: a b"], [b"Host: a.test, b.test"]])


@trick
def connection_lists(request, rng):
    names = [b"Content-Length", b"Transfer-Encoding", b"Host", b"close", b"keep-alive", b"X-Place", b"Connection", b"Upgrade", b"TE", b"\0", b"Trailer"]
    request.fields.append(b"Connection: " + b", ".join(rng.sample(names, rng.randrange(1, 4))))


@trick
def expects(request, rng):
    if rng.randrange(2):
        request.with_length(rng)
    request.fields.append(rng.choice([b"Expect: 100-continue", b"Expect: 100-continue, 100-continue", b"expect: x", b"Expect: 100-Continue", b"Expect:"]))


@trick
def upgrade(request, rng):
    wanted = rng.choice([b"websocket", b"h2c", b"HTTP/2.0", b"TLS/1.0", b"websocket, h2c", b"x"])
    request.fields += [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + wanted]
    if wanted == b"h2c":
        request.fields.append(b"HTTP2-Settings: AAMAAABkAAQAAP__")
    if wanted == b"websocket":
        request.fields += [b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    return (wanted == b"websocket" and bool(request.body)) or None


@trick
def body_unannounced(request, rng):
    request.body = content(rng, request.stream)
    request.framing, request.chunks, request.trailers = [], None, []


@trick
def body_of_get(request, rng):
    request.method = rng.choice([b"GET", b"DELETE", b"OPTIONS", b"TRACE", b"HEAD"])
    if rng.randrange(2):
        request.with_length(rng)
    else:
        request.with_chunks(rng)


@trick
def method_odd(request, rng):
    request.method = rng.choice([b"get", b"Get", b"X-Y", b"!", b"A" * 40, b"PRI", b"SOURCE", b"_"])


def a_chunk(request, rng):
    request.with_chunks(rng)
    return rng.choice(request.chunks)


@trick
def chunk_size_malformed(request, rng):
    chunk = a_chunk(request, rng)
    chunk.size = (
        rng.choice([b"+%s", b"-%s", b"0x%s", b" %s", b"\t%s", b"%sg", b"%s\0", b"\0%s", b"%s.", b"%s,", b"%s_0", b"h%s", b"\x0b%s", b"%s\x0b", b"\r%s", b"%s\r", b"%sh"])
        % chunk.size
    )
    return True


@trick
def chunk_size_absent(request, rng):
    a_chunk(request, rng).size = rng.choice([b"", b";a", b" "])
    return True


@trick
def chunk_size_overflows(request, rng):
    chunk = a_chunk(request, rng)
    chunk.size = rng.choice([b"1%016x", b"100000000%08x", b"ffffffff%08x", b"80000000%08x", b"f" * 30 + b"%x"]) % len(chunk.data)
    return True


@trick
def chunk_size_unusual(request, rng):
    chunk = a_chunk(request, rng)
    chunk.size = rng.choice([b"%s ", b"%s\t", b"0%s", b"000000000000%s", b"0000000000000000000000000%s", b"%s ;a", b"%s; a", b"%s;a ", b"%s\t;a=b"]) % chunk.size


@trick
def chunk_size_other(request, rng):
    chunk = a_chunk(request, rng)
    chunk.size = b"%x" % max(1, len(chunk.data) + rng.choice([-2, -1, 1, 2, 3, 40]))


@trick
def chunk_extension(request, rng):
    chunk = a_chunk(request, rng)
    chunk.size += rng.choice(
        [b";", b";;", b";a=", b";=b", b';a="b', b';a="\r\n', b";a\nb", b";a\n", b";\n", b";a\rb", b";a\r", b";\0", b";\xff", b";a=0\r\n5", b"; a = b"]
        + [b";" + b"a" * 200, b";a" * 9000, b";a=b;c=d"]
    )


@trick
def chunk_line_end(request, rng):
    a_chunk(request, rng).size_end = rng.choice([b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r\n", b""])


@trick
def chunk_data_end(request, rng):
    a_chunk(request, rng).data_end = rng.choice([b"", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"XX", b"XX\r\n", b"\0\r\n", b" \r\n", b"\r\n\r\n"])


@trick
def last_chunk(request, rng):
    request.with_chunks(rng)
    last = request.last
    last.size = rng.choice([b"00", b"0" * 20, b"0;a", b"0 ", b"-0", b"0x0", b"", b"0\0", b"0\n", b"0;a\n", b"0"])
    last.size_end = rng.choice([CRLF, CRLF, b"\n", b"\r", b"", b"\r\r\n"])
    last.data_end = rng.choice([CRLF, CRLF, b"\n", b"\r", b"", b"X\r\n", b"\r\r\n", b"\n\r\n"])


@trick
def trailers_forbidden(request, rng):
    request.with_chunks(rng)
    names = [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Host: b.test", b"Connection: close"]
    names += [b"Authorization: x", b"X-Forwarded-Client-Cert: By=a", b"X_Forwarded_Client_Cert: By=a", b"Content-Type: a/b", b"Trailer: X", b"TE: trailers", b"Upgrade: h2c"]
    request.trailers = rng.sample(names, rng.randrange(1, 3)) + rng.choice([[], [b"X-Checksum: 1"]])
    if rng.randrange(2):
        request.fields.append(b"Trailer: Content-Length, X-Checksum")


@trick
def trailers_malformed(request, rng):
    request.with_chunks(rng)
    line = rng.choice([b"X", b": a", b"X : a", b" X: a", b"X: a\r\n b", b"X: a\nY: b", b"X: a\rY: b", b"X: a\0", b"X\0: a", b"X: a\n\nY: b", b"GET / HTTP/1.1"])
    request.trailers = [b"X-Checksum: 1", line, b"X-Other: 2"]


@trick
def trailers_many(request, rng):
    request.with_chunks(rng)
    request.trailers = [b"X-%d: %d" % (number, number) for number in range(rng.choice([20, 90, 300]))]

