"""Compares which requests Portcullis, nginx, HAProxy and h11 see in the same bytes.

What Portcullis forwards must be strict, must have the same ends as at least one of the others, and must not be what is to be
refused. Every other outcome is a finding unless it is EXPLAINED, and ends the run with exit status 1. Usually called by `run` beside it.
"""

import argparse
import asyncio
import collections
import itertools
import re
import sys
import time

import fronts
import streams
from fronts import Refused, Seen

OURS = "portcullis"
# Seconds of silence after which a front is taken to wait for more. What was found is tried again with more of them, since
# a busy machine is slow.
PATIENCE = 0.25
PATIENCE_AGAIN = 2.5
MOST_FINDINGS = 10
# Ends that we see elsewhere, and why that may be. What arrives behind us is strict all the same.
EXPLAINED = [
    # An empty line of one LF among trailers: h11 ends the message there, the others refuse it. The HTTP library reads on to
    # CRLF CRLF, passes on what stands before the LF, and throws the rest away: it is neither forwarded nor read as a request.
    # RFC 9112 section 2.2 lets a reader take a bare LF for the end of a line, and leaves it free not to.
    re.compile(rb"\r\n0+[^\r\n]*\r\n(?:[^\r\n]+\r?\n)*[^\r\n]*\n\n"),
]
KINDS = {"not strict", "well-formed", "to be refused", "end elsewhere"}


def same(ours, other):
    """Whether two see one request alike, as far as both of them have got."""
    if not isinstance(other, Seen) or (ours.method, ours.path) != (other.method, other.path):
        return False
    if ours.complete and other.complete:
        return ours.body == other.body
    if ours.complete:
        return False
    # Ours has not ended yet: all that there is must stand in the other's, or the other has not got as far.
    return other.body.startswith(ours.body) or (not other.complete and ours.body.startswith(other.body))


def agrees(ours, other):
    """Whether all that we forwarded stands in the view of another at the same place. We may see less, never more.

    A request of which we forwarded a part and then found it broken agrees with a refusal: others read a body whole before
    they forward anything. No end of it was claimed, and its connection to the application is closed (RFC 9112 section 8).
    """
    for place, entry in enumerate(ours.entries):
        if isinstance(entry, Refused):
            continue
        theirs = other.entries[place] if place < len(other.entries) else Refused(0)
        if not entry.complete and isinstance(theirs, Refused):
            continue
        if not same(entry, theirs):
            return False
    return True


def judge(stream, views):
    """Everything that is wrong with what we made of a stream, as (kind, text)."""
    ours = views[OURS]
    found = [("not strict", fault) for fault in ours.faults]
    others = [view for name, view in views.items() if name != OURS]
    as_written = fronts.written(stream)
    if not stream.tricks:
        for name, view in views.items():
            if view.entries != as_written.entries:
                found.append(("well-formed", f"{name} does not see a well-formed stream as it is"))
    if stream.has_clear_ends():
        others.append(as_written)
    if stream.refused is not None:
        for entry in ours.entries[stream.refused : stream.refused + 1]:
            if isinstance(entry, Seen) and entry.complete:
                found.append(("to be refused", f"request {stream.refused} was forwarded: {entry}"))
    is_explained = any(pattern.search(stream.wire) for pattern in EXPLAINED)
    if not is_explained and not any(agrees(ours, other) for other in others):
        found.append(("end elsewhere", "nobody else sees what we forwarded"))
    return found


async def look(lanes, stream, patience):
    """The views of all."""
    names = list(lanes)
    seen = await asyncio.gather(*(lanes[name].exchange(stream, patience) for name in names))
    return {**dict(zip(names, seen)), "h11": fronts.parsed(stream.wire)}


class Run:
    """The streams of one run, and what came of them."""

    def __init__(self, options):
        self.options = options
        numbers = [options.only] if options.only is not None else itertools.count()
        self.numbers = iter(numbers)
        self.until = time.monotonic() + options.seconds
        self.streams = 0
        self.not_again = 0
        self.endings = collections.Counter()
        self.kinds = collections.Counter()
        self.tricks = set()

    async def work(self, lanes):
        """Carries streams over one set of lanes until it is enough."""
        while time.monotonic() < self.until and (self.options.expect_findings or sum(self.kinds.values()) < MOST_FINDINGS):
            number = next(self.numbers, None)
            if number is None or number == self.options.streams:
                # For the other workers as well.
                self.numbers = iter(())
                return
            stream = streams.make(self.options.seed, number)
            views = await look(lanes, stream, PATIENCE)
            found = judge(stream, views)
            if found and not self.options.expect_findings and not any(kind == "not strict" for kind, _ in found):
                views = await look(lanes, stream, PATIENCE_AGAIN)
                again = judge(stream, views)
                self.not_again += not again
                found = again
            self.count(stream, views)
            if found or self.options.only is not None:
                self.report(stream, views, found)

    def count(self, stream, views):
        self.streams += 1
        self.tricks.update(stream.tricks)
        for name, view in views.items():
            whole = [e for e in view.entries if isinstance(e, Seen) and e.complete]
            self.endings[name, "requests"] += len(whole)
            self.endings[name, "sentinels"] += any(e.path.startswith(b"/sentinel?") for e in whole)

    def report(self, stream, views, found):
        self.kinds.update({kind for kind, _ in found})
        if self.options.expect_findings:
            return
        print(f"\nstream {stream.number} of seed {self.options.seed}: {', '.join(stream.tricks) or 'well-formed'}")
        print(f"  again: --seed {self.options.seed} --only {stream.number}")
        print(f"  sent {stream.wire!r}")
        for name, view in views.items():
            print(f"  {name}, {view.ended}:")
            for entry in view.entries:
                print(f"    {entry}")
        print(f"  arrived behind {OURS}: {views[OURS].received!r}")
        for kind, text in found:
            print(f"  FINDING, {kind}: {text}")

    def summary(self):
        print(f"{self.streams} streams of seed {self.options.seed} with {len(self.tricks)} tricks of {len(streams.TRICKS)}")
        for name in dict.fromkeys(name for name, _ in self.endings):
            requests, sentinels = self.endings[name, "requests"], self.endings[name, "sentinels"]
            print(f"  {name}: {requests} requests whole, of them {sentinels} sentinels")
        if self.not_again:
            print(f"  {self.not_again} differences were not there when tried again")


def lanes_of(text, **how):
    """Lanes, written FRONT:RECORDER,…"""
    pairs = (pair.split(":") for pair in text.split(","))
    return [fronts.Lane(int(front), int(recorder), **how) for front, recorder in pairs]


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portcullis", required=True, help="lanes, FRONT:RECORDER,…")
    parser.add_argument("--nginx", required=True)
    parser.add_argument("--haproxy", required=True)
    parser.add_argument("--root", help="whom to believe about Portcullis")
    parser.add_argument("--identity", help="directory with tls.crt and tls.key of the caller")
    parser.add_argument("--seed", default="portcullis")
    parser.add_argument("--streams", type=int, help="how many, from the first on")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for how long")
    parser.add_argument("--only", type=int, help="this stream alone")
    parser.add_argument("--expect-findings", action="store_true", help="a self-test: put in place of ours what passes everything on to a recorder that is wrong on purpose, and fail unless each kind of finding is made")
    return parser.parse_args()


async def main():
    chosen = options()
    run = Run(chosen)
    if chosen.expect_findings:
        # Nothing between the caller and a recorder.
        wrong = [lane.recorder_port for lane in lanes_of(chosen.portcullis)]
        ours = [fronts.Lane(port, port, wrong=True) for port in wrong]
    else:
        tls = fronts.tls_of(chosen.root, f"{chosen.identity}/tls.crt", f"{chosen.identity}/tls.key")
        ours = lanes_of(chosen.portcullis, tls=tls)
    sets = zip(ours, lanes_of(chosen.nginx), lanes_of(chosen.haproxy))
    lanes = [dict(zip((OURS, "nginx", "haproxy"), one)) for one in sets]
    for lane in (lane for one in lanes for lane in one.values()):
        await lane.open()
    await asyncio.gather(*(run.work(one) for one in lanes))
    if chosen.expect_findings:
        missed = KINDS - run.kinds.keys()
        print(f"kinds of finding that were not made: {', '.join(sorted(missed)) or 'none'}")
        return 1 if missed else 0
    run.summary()
    return 1 if run.kinds else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
