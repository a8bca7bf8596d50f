#!/usr/bin/env python3
"""Adds a client certificate for programs that have none to show: plaintext in, mutual TLS with ALPN h2 out.

    tests/client-certificate.py LISTEN_PORT TARGET_PORT IDENTITY_DIRECTORY

Bytes pass as they are, in both directions, and the end of each direction too. Loopback only; who answers is not verified:
that is not what is tested with it.
"""

import asyncio
import contextlib
import ssl
import sys

MOST_BYTES = 64 * 1024


def client_tls(directory):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(f"{directory}/tls.crt", f"{directory}/tls.key")
    context.set_alpn_protocols(["h2"])
    return context


async def pump(reader, writer):
    """Passes bytes on until one side ends or breaks off."""
    with contextlib.suppress(OSError, ssl.SSLError):
        while piece := await reader.read(MOST_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


async def main(listen_port, target_port, directory):
    context = client_tls(directory)

    async def serve(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port, ssl=context)
        except (OSError, ssl.SSLError):
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", listen_port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
