"""A WebSocket backend of the Python library `websockets`, for the tests: it sends back what it gets, compressed where the client
offers that. Text with a CR comes back as binary, as from the README's backend, so that one client fits both."""

import asyncio

import websockets


async def echo(socket):
    async for message in socket:
        is_special = isinstance(message, str) and "\r" in message
        await socket.send(message.encode() if is_special else message)


async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"listening on {host}:{port}", flush=True)
        await asyncio.Future()


asyncio.run(main())
