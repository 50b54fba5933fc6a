#!/usr/bin/env python3
"""Clients of a measurement, as a process of their own. abuse.py starts them.

Reads one JSON object from standard input. Its member `mode` is the name of a function below; the other members are
the arguments of the function. Ends after `seconds` and prints the result as JSON.
"""

import asyncio
import collections
import json
import pathlib
import random
import signal
import socket
import struct
import sys
import time
import uuid

HOST = "127.0.0.1"
# How long the last requests of a steady client may take after its end.
GRACE = 15
# The time in which a flood opens its connections. A shorter one could overflow the queue of the listener.
OPEN_SECONDS = 0.8
# How long an attacker waits before it opens a connection again, so that one process cannot exhaust the local ports.
REOPEN_PAUSE = 1
PIECE = 64 * 1024


async def steady(clients, port, seconds):
    """Sends requests at fixed times, whether or not earlier requests have a response. The latency of a request counts
    from the time at which it was due. Each client has a token, a body, a source address, a rate, a number of
    connections, and `fresh_every`: it sends every n-th request over a new connection.
    """
    start = time.monotonic() + 0.1
    tasks, queues, outcomes = [], [], []
    for number, client in enumerate(clients):
        queues.append(asyncio.Queue())
        offset = number / len(clients) / client["rate"]
        tasks += steady_client(client, port, start + offset, int(client["rate"] * seconds), queues[-1], outcomes)
    await asyncio.wait(tasks, timeout=seconds + GRACE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # The requests that no connection was free to send.
    for queue in queues:
        while not queue.empty():
            if (due := queue.get_nowait()) is not None:
                outcomes.append((time.monotonic() - due, "no response", time.monotonic()))
    latencies = sorted(latency for latency, _, _ in outcomes)
    return {"sent": len(outcomes), "statuses": collections.Counter(status for _, status, _ in outcomes),
            "in_time": sum(status == "200" and ended <= start + seconds + 1 for _, status, ended in outcomes),
            "p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99), "max": latencies[-1] * 1000}


def percentile(latencies, part):
    """Returns a percentile in milliseconds."""
    return latencies[min(len(latencies) - 1, int(len(latencies) * part))] * 1000


def steady_client(client, port, start, count, queue, outcomes):
    request = http_request(client["token"], client["body"])
    connections = [Connection(port, client["source"]) for _ in range(client["connections"])]

    async def schedule():
        fresh = []
        for number in range(count):
            due = start + number / client["rate"]
            await asyncio.sleep(max(0, due - time.monotonic()))
            if client["fresh_every"] and number % client["fresh_every"] == client["fresh_every"] - 1:
                fresh.append(asyncio.create_task(once(due)))
            else:
                queue.put_nowait(due)
        for _ in connections:
            queue.put_nowait(None)
        await asyncio.gather(*fresh)

    async def once(due):
        connection = Connection(port, client["source"])
        try:
            await send(connection, due)
        finally:
            connection.close()

    async def work(connection):
        while (due := await queue.get()) is not None:
            await send(connection, due)
        connection.close()

    async def send(connection, due):
        status = "no response"
        try:
            status, body = await connection.execute(request)
            if status == "200" and b'"errors"' in body:
                status = "errors"
        except (OSError, EOFError, ValueError):
            connection.close()
            status = "closed"
        finally:
            now = time.monotonic()
            outcomes.append((now - due, status, now))

    return [asyncio.create_task(task) for task in (schedule(), *map(work, connections))]


class Connection:
    """A connection that opens when it is needed, also again after the server closed it."""

    def __init__(self, port, source=None):
        self.port, self.source = port, source
        self.reader = self.writer = None

    async def execute(self, request, keep=True):
        """Sends a request. Returns the status and the body, or only the beginning of the body unless `keep`."""
        if self.reader is None or self.reader.at_eof():
            self.close()
            local = (self.source, 0) if self.source else None
            self.reader, self.writer = await asyncio.open_connection(HOST, self.port, local_addr=local)
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        status = head[9:12].decode()
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(await self.reader.readline(), 16):
                piece = await self.read(size, keep)
                body = body + piece if keep else body or piece
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
        else:
            lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length")]
            body = await self.read(int(lengths[0]), keep) if lengths else b""
        if b"connection: close" in head:
            self.close()
        return status, body

    async def read(self, size, keep):
        if keep:
            return await self.reader.readexactly(size)
        beginning = b""
        while size:
            piece = await self.reader.read(min(size, PIECE))
            if not piece:
                raise EOFError
            beginning = beginning or piece
            size -= len(piece)
        return beginning

    def close(self):
        if self.writer:
            self.writer.transport.abort()
        self.reader = self.writer = None


def http_request(token, body, headers=()):
    """Returns the bytes of a request that runs an operation."""
    content = body.encode()
    lines = ["POST /graphql HTTP/1.1", f"Host: {HOST}", f"Authorization: Bearer {token}",
             "Content-Type: application/json", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


async def probe(probes, port, source, seconds, timeout):
    """Requests paths at fixed times, each time over a new connection. Returns the longest wait for each path."""
    start = time.monotonic() + 0.1
    results = {path: {"longest": 0, "statuses": collections.Counter()} for path, _ in probes}

    async def once(path, own_port):
        began, status = time.monotonic(), "no response"
        connection = Connection(own_port, source)
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        try:
            async with asyncio.timeout(timeout):
                status, _ = await connection.execute(request)
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            connection.close()
            result = results[path]
            result["longest"] = max(result["longest"], time.monotonic() - began)
            result["statuses"][status] += 1

    tasks = []
    for number in range(int(seconds * 5)):
        await asyncio.sleep(max(0, start + number / 5 - time.monotonic()))
        tasks += [asyncio.create_task(once(path, own_port or port)) for path, own_port in probes]
    await asyncio.gather(*tasks)
    return results


async def attacks(floods):
    """Runs several floods at once. Each has the name of one of the following functions and its arguments. Returns the
    number of responses by status.
    """
    results = await asyncio.gather(*(MODES[flood.pop("mode")](**flood) for flood in floods))
    return sum(results, collections.Counter())


async def replay(request, port, connections, seconds):
    """Sends a request again and again, and reads each response as fast as it can. Replaces @UUID@ by a new UUID."""
    request = pathlib.Path(request).read_bytes()

    async def attack(statuses):
        connection = Connection(port)
        while True:
            try:
                key = str(uuid.uuid4()).encode()
                status, body = await connection.execute(request.replace(b"@UUID@", key), keep=False)
                # A rejected operation has no member `data` before its errors.
                statuses[f"{status} with errors" if status == "200" and body.startswith(b'{"errors"') else status] += 1
            except (OSError, EOFError, ValueError):
                statuses["closed"] += 1
                connection.close()
                await asyncio.sleep(REOPEN_PAUSE)

    return await run(attack, connections, seconds)


async def slow(request, port, connections, seconds, bytes_per_second):
    """Sends a request and reads the response slowly."""
    request = pathlib.Path(request).read_bytes()

    async def attack(statuses):
        loop = asyncio.get_running_loop()
        while True:
            with socket.socket() as client:
                # A small buffer, so that the kernel does not receive the response for the client.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                try:
                    await loop.sock_connect(client, (HOST, port))
                    await loop.sock_sendall(client, request)
                    piece = await loop.sock_recv(client, 512)
                    statuses[piece[9:12].decode() or "closed"] += 1
                    while piece:
                        await asyncio.sleep(0.1)
                        piece = await loop.sock_recv(client, bytes_per_second // 10)
                except OSError:
                    statuses["closed"] += 1
            await asyncio.sleep(REOPEN_PAUSE)

    return await run(attack, connections, seconds)


async def hold(request, port, connections, seconds):
    """Sends the beginning of a request, or nothing, and waits. Opens a connection again after the server closed it."""
    request = pathlib.Path(request).read_bytes()

    async def attack(statuses):
        loop = asyncio.get_running_loop()
        while True:
            with socket.socket() as client:
                client.setblocking(False)
                try:
                    await loop.sock_connect(client, (HOST, port))
                    statuses["opened"] += 1
                    await loop.sock_sendall(client, request)
                    piece = await loop.sock_recv(client, PIECE)
                    statuses[piece[9:12].decode() or "closed"] += 1
                except OSError:
                    statuses["closed"] += 1
            await asyncio.sleep(REOPEN_PAUSE)

    return await run(attack, connections, seconds)


async def cut(request, port, connections, seconds, milliseconds):
    """Sends a request and closes the connection after a random time in the range `milliseconds`."""
    request = pathlib.Path(request).read_bytes()

    async def attack(statuses):
        loop = asyncio.get_running_loop()
        while True:
            with socket.socket() as client:
                # Close with a reset: the closed connection then keeps no local port.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.setblocking(False)
                try:
                    await loop.sock_connect(client, (HOST, port))
                    await loop.sock_sendall(client, request.replace(b"@UUID@", str(uuid.uuid4()).encode()))
                    await asyncio.sleep(random.uniform(*milliseconds) / 1000)
                    statuses["cut"] += 1
                    continue
                except OSError:
                    statuses["closed"] += 1
            await asyncio.sleep(REOPEN_PAUSE)

    return await run(attack, connections, seconds)


async def run(attack, connections, seconds):
    """Runs an attack over this many connections. Returns the number of responses by status."""
    statuses, tasks, start = collections.Counter(), [], time.monotonic()
    for number in range(connections):
        await asyncio.sleep(max(0, start + number / connections * OPEN_SECONDS - time.monotonic()))
        tasks.append(asyncio.create_task(attack(statuses)))
    await asyncio.sleep(start + seconds - time.monotonic())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return statuses


MODES = {mode.__name__: mode for mode in (steady, probe, attacks, replay, slow, hold, cut)}


def main():
    arguments = json.load(sys.stdin)
    print(json.dumps(asyncio.run(MODES[arguments.pop("mode")](**arguments))))


if __name__ == "__main__":
    # The process that started this one handles Ctrl-C and then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
