"""Sends streams to fronts and finds out which requests each of them saw.

A lane is one way through a front to a recorder that nobody else uses, and carries one stream at a time. So whatever
arrives belongs to that stream, and what the front answered itself is what has no number of the recorder's.
"""

import asyncio
import itertools
import re
import ssl
from dataclasses import dataclass, field

import h11

from strict import Reader

RESPONSE_HEAD = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\n]*\n((?:[^\r\n]+\r?\n)*)\r?\n")
SEEN = re.compile(rb"^x-seen: ([0-9]+)\r?$", re.IGNORECASE | re.MULTILINE)
# What a front takes to give up a request whose sender is gone.
SETTLING = 3


@dataclass
class Refused:
    """A request that a front answered itself."""

    status: int

    def __str__(self):
        return f"refused with {self.status}"


@dataclass
class Seen:
    """A request that a front forwarded, or that a parser found; `complete` says whether to its end."""

    method: bytes
    path: bytes
    body: bytes
    complete: bool

    def __str__(self):
        state = "" if self.complete else ", without an end"
        return f"{self.method!r} {self.path!r} with {self.body!r}{state}"


@dataclass
class View:
    """What one front or parser made of a stream: requests in their order, and how it ended."""

    entries: list = field(default_factory=list)
    ended: str = ""
    # What is wrong with this view, whatever others saw.
    faults: list = field(default_factory=list)
    received: bytes = b""


def path_of(target):
    """The path and query of a target, whether it names a host or not. Slashes that are repeated count as one, since we
    forward them so; a fragment, which no target may have, is not forwarded."""
    target = target.partition(b"#")[0]
    path, mark, query = re.sub(rb"^[A-Za-z]+://[^/?#]*", b"", target).partition(b"?")
    return re.sub(rb"//+", b"/", path) + mark + query


class Recorder:
    """Answers every request that a front forwards, and keeps them."""

    def __init__(self, wrong=False):
        self.wrong = wrong
        self.connections = set()
        self.changed = asyncio.Event()
        self.begin()

    def begin(self):
        """Forgets what came before."""
        self.numbers = itertools.count(1)
        self.messages = []
        self.received = bytearray()
        self.sentinel = None

    async def listen(self, port):
        await asyncio.get_running_loop().create_server(lambda: Recorded(self), "127.0.0.1", port)

    def all_messages(self):
        """In the order of their beginnings, with those that have no end."""
        begun = [connection.reader.message for connection in self.connections if connection.reader.message]
        return sorted(self.messages + begun, key=lambda message: message.number)

    def is_settled(self):
        return all(connection.reader.is_between_messages() for connection in self.connections)

    async def settle(self):
        """Waits until every connection is between two messages, or gone; those that are not in time are closed."""
        deadline = asyncio.get_running_loop().time() + SETTLING
        while not self.is_settled() and asyncio.get_running_loop().time() < deadline:
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), 0.2)
            except asyncio.TimeoutError:
                pass
        messages = self.all_messages()
        for connection in list(self.connections):
            if not connection.reader.is_between_messages():
                connection.transport.abort()
        return messages


class Recorded(asyncio.Protocol):
    """One connection from a front."""

    def __init__(self, recorder):
        self.recorder = recorder
        self.reader = self.new_reader()

    def new_reader(self):
        # The numbers of the stream that is under way, also on a connection that is older.
        numbers = (next(self.recorder.numbers) for _ in itertools.count())
        return Reader(self.arrived, numbers, self.recorder.wrong)

    def connection_made(self, transport):
        self.transport = transport
        self.recorder.connections.add(self)

    def data_received(self, data):
        self.recorder.received += data
        self.reader.feed(data)
        self.recorder.changed.set()

    def arrived(self, message):
        self.recorder.messages.append(message)
        if message.target.startswith(b"/sentinel?"):
            self.recorder.sentinel = message.number
        body = b"" if message.method == b"HEAD" else b"ok"
        self.transport.write(b"HTTP/1.1 200 OK\r\nX-Seen: %d\r\nContent-Length: 2\r\n\r\n" % message.number + body)

    def connection_lost(self, error):
        if self.reader.message:
            self.recorder.messages.append(self.reader.message)
        self.recorder.connections.discard(self)
        self.recorder.changed.set()


class Client(asyncio.Protocol):
    """The caller's end of a lane."""

    def __init__(self, changed):
        self.changed = changed
        self.received = bytearray()
        self.closed = False

    def data_received(self, data):
        self.received += data
        self.changed.set()

    def connection_lost(self, error):
        self.closed = True
        self.changed.set()

    def has_seen(self, number):
        return any(int(found) == number for found in SEEN.findall(self.received))


class Lane:
    """One way through a front to its own recorder."""

    def __init__(self, front, recorder_port, tls=None, wrong=False):
        self.front = front
        self.recorder_port = recorder_port
        self.tls = tls
        self.before = b"?s="
        self.recorder = Recorder(wrong)

    async def open(self):
        await self.recorder.listen(self.recorder_port)

    async def exchange(self, stream, patience):
        """What the front sees in a stream. It has seen all of it when it answers the sentinel, closes the connection, or
        does nothing for `patience` seconds."""
        recorder = self.recorder
        recorder.begin()
        loop = asyncio.get_running_loop()
        name = "localhost" if self.tls else None
        transport, client = await loop.create_connection(
            lambda: Client(recorder.changed), "127.0.0.1", self.front, ssl=self.tls, server_hostname=name
        )
        for piece in pieces(stream):
            transport.write(piece)
            await asyncio.sleep(0)
        ended = await self.end_of(client, patience)
        transport.abort()
        messages = await recorder.settle()
        # What carries the number of the stream before came too late for that one. A stream that is tried again has its own.
        mark = b"?s=%d" % stream.number
        if self.before != mark:
            messages = [message for message in messages if not message.target.endswith(self.before)]
        self.before = mark
        return view_of(messages, bytes(client.received), ended, bytes(recorder.received))

    async def end_of(self, client, patience):
        recorder = self.recorder
        while True:
            if client.closed:
                return "closed"
            if recorder.sentinel and client.has_seen(recorder.sentinel):
                return "sentinel answered"
            recorder.changed.clear()
            try:
                await asyncio.wait_for(recorder.changed.wait(), patience)
            except asyncio.TimeoutError:
                return "waits for more"


def pieces(stream):
    """The stream as it is written: often at once, else cut at places that depend on its number alone."""
    if stream.number % 3:
        return [stream.wire]
    cuts = sorted({0, len(stream.wire), *(stream.number * prime % len(stream.wire) for prime in (7, 131, 1009))})
    return [stream.wire[start:end] for start, end in zip(cuts, cuts[1:])]


def responses(received):
    """Status and number of each final response in what a client got; the number is None where the front answered."""
    at = 0
    while head := RESPONSE_HEAD.match(received, at):
        at = head.end()
        status, seen = int(head[1]), SEEN.search(head[2])
        if 100 <= status < 200 and status != 101:
            continue
        yield status, int(seen[1]) if seen else None
        # A body of ours is short, and one of a front's own holds no status line at its beginning.
        following = received.find(b"HTTP/1.", at)
        at = len(received) if following < 0 else following


def view_of(messages, received, ended, arrived):
    """Puts what a recorder got and what the client was answered into one order."""
    view = View(ended=ended, received=arrived)
    left = {message.number: message for message in messages}
    last = 0
    answered = list(responses(received))
    whole_left = [message for message in messages if message.complete]
    for status, number in answered:
        if number is None:
            view.entries.append(Refused(status))
        elif number in left and number > last:
            message = left.pop(number)
            last = number
            view.entries.append(seen(message))
        else:
            view.faults.append(f"the answer to request {number} came twice or out of order")
    for message in left.values():
        if not message.complete and view.entries and isinstance(view.entries[-1], Refused):
            # What the front answered is that this request broke off.
            view.entries.pop()
        view.entries.append(seen(message))
    broken = next((place for place, message in enumerate(messages) if not message.complete), len(messages))
    if any(message.complete for message in messages[broken:]):
        view.faults.append("a request arrived behind one that had no end")
    view.faults += [f"arrived: {fault}" for message in messages for fault in message.faults]
    return view


def seen(message):
    """A recorded message as part of a view."""
    return Seen(message.method, path_of(message.target), message.body, message.complete)


def written(stream):
    """What was meant, for streams whose tricks leave no doubt about it."""
    requests = [Seen(request.method, path_of(request.target), request.body, True) for request in stream.requests]
    return View(entries=requests, ended="as it was written")


def parsed(wire):
    """What the independent parser sees."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(wire)
    view = View(ended="waits for more")
    try:
        while take(connection, view):
            pass
    except h11.RemoteProtocolError as error:
        view.ended = f"error: {error}"
        if not view.entries or view.entries[-1].complete:
            view.entries.append(Refused(error.error_status_hint))
    return view


def take(connection, view):
    """One event of the parser; whether there may be another."""
    event = connection.next_event()
    if isinstance(event, h11.Request):
        view.entries.append(Seen(event.method, path_of(event.target), b"", False))
    elif isinstance(event, h11.Data):
        view.entries[-1].body += bytes(event.data)
    elif isinstance(event, h11.EndOfMessage):
        view.entries[-1].complete = True
        status = 405 if view.entries[-1].method == b"CONNECT" else 200
        connection.send(h11.Response(status_code=status, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is h11.MUST_CLOSE:
            view.ended = "closed"
            return False
        connection.start_next_cycle()
    else:
        return False
    return True


def tls_of(root, certificate, key):
    """How a caller with a SPIFFE certificate speaks to the sidecar: HTTP/1.1 over TLS 1.3."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The server's name is a SPIFFE ID, which this module does not know.
    context.check_hostname = False
    context.load_verify_locations(root)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
