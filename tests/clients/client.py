"""A WebSocket client of the Python library `websockets`, for the tests.

    client.py echo URL CA        sends messages of many sizes to a server that echoes
    client.py close URL CA NAME… offers subprotocols and waits to be closed

Prints one JSON object per line for everything it sees; a failed check is an exception and exit code 1.
"""

import asyncio
import json
import ssl
import sys

import websockets

SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
LIMIT = 60


def say(**what):
    print(json.dumps(what), flush=True)


def text(number, size):
    """`size` bytes of UTF-8, with line feeds and characters of two bytes, that differ from number to number."""
    whole = (f"{number} " + "tide é\n" * (size // 8 + 1)).encode()[:size].decode(errors="ignore")
    return whole + "." * (size - len(whole.encode()))  # in place of half a character


def binary(number, size):
    return bytes((number + at) % 256 for at in range(size))


def messages():
    """Pairs of what is sent and what must come back."""
    for number, size in enumerate(SIZES, start=1):
        said = text(number, size)
        assert len(said.encode()) == size, (number, size)
        yield said, said
        octets = binary(number, size)
        yield octets, octets
    # An event cannot carry a CR, so the README's backend sends such text as a binary event.
    yield "carriage\rreturn", b"carriage\rreturn"


async def echo(url, tls):
    async with websockets.connect(url, ssl=tls, max_size=None) as socket:
        say(event="open", subprotocol=socket.subprotocol, extensions=[str(e) for e in socket.protocol.extensions])
        pairs = list(messages())

        async def send():
            for said, _ in pairs:
                await socket.send(said)

        sending = asyncio.create_task(send())  # beside the receiving, so that neither waits for the other
        for number, (said, wanted) in enumerate(pairs, start=1):
            seen = await socket.recv()
            if seen != wanted:
                raise AssertionError(f"message {number}: sent {said!r:.60}, got {seen!r:.60}")
            kind = "text" if isinstance(seen, str) else "binary"
            say(event="echo", number=number, kind=kind, size=len(seen.encode() if kind == "text" else seen))
        await sending
        await (await socket.ping(b"tide"))
        say(event="pong")
        await socket.close(1000, "done")
        say(event="close", code=socket.close_code, reason=socket.close_reason)


async def close(url, tls, names):
    async with websockets.connect(url, ssl=tls, subprotocols=names) as socket:
        say(event="open", subprotocol=socket.subprotocol)
        try:
            while True:
                say(event="message", data=await socket.recv())
        except websockets.ConnectionClosed as closed:
            say(event="close", code=closed.rcvd.code, reason=closed.rcvd.reason)


def main():
    scene, url, ca, *names = sys.argv[1:]
    tls = ssl.create_default_context(cafile=ca)
    scenes = {"echo": lambda: echo(url, tls), "close": lambda: close(url, tls, names)}
    asyncio.run(asyncio.wait_for(scenes[scene](), LIMIT))


main()
