"""Runs the E2B SDK's tests against the guest agent of a real microVM.

usage: run.py [pytest arguments]

A release server with its own data directory creates a sandbox from the template base. In debug mode the SDK connects to
localhost:49983, so the tests run in a separate network namespace, where two relays connect that address to the agent.
The outer relay adds the sandbox's access token. The relays close each connection after one request, so that every
request gets the header.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.abspath(os.path.join(HERE, "..", "..", ".."))
MARTLET = os.path.join(REPOSITORY, "bin", "martlet")
IMAGES = os.environ.get("MARTLET_IMAGE_DIR", "/var/lib/martlet/images")
AGENT_PORT = 49983
START_SECONDS = 60


async def pipe(reader, writer):
    try:
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (ConnectionError, OSError):
        writer.close()


def with_header(head, *headers):
    """The head with `Connection: close` and more headers."""
    replaced = (b"connection:", b"x-access-token:")
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(replaced)]
    return b"\r\n".join([*lines, b"connection: close", *headers]) + b"\r\n\r\n"


async def relay_response(reader, writer):
    """Relays the response. Its head also needs `Connection: close`, or the client would reuse the connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, OSError):
        writer.write(with_header(await reader.readuntil(b"\r\n\r\n")))
    await pipe(reader, writer)


async def relay(left, right, closes=False):
    """Relays both directions. Ends with the response, even if the sender of the request has not closed."""
    request = asyncio.create_task(pipe(left[0], right[1]))
    await (relay_response if closes else pipe)(right[0], left[1])
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    left[1].close()
    right[1].close()


async def outer_relay(path, address, token):
    """Relays the Unix socket to the agent and adds the token."""

    async def accept(reader, writer):
        try:
            head = with_header(await reader.readuntil(b"\r\n\r\n"), b"x-access-token: " + token.encode())
            agent = await asyncio.open_connection(address, AGENT_PORT)
            agent[1].write(head)
            await relay((reader, writer), agent, closes=True)
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            writer.close()

    return await asyncio.start_unix_server(accept, path)


async def inner(path, arguments):
    """In the network namespace: relays localhost to the Unix socket and runs the tests."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    async def accept(reader, writer):
        try:
            await relay((reader, writer), await asyncio.open_unix_connection(path))
        except (ConnectionError, OSError):
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", AGENT_PORT)
    environment = os.environ | {"E2B_DEBUG": "true", "E2B_API_KEY": "e2b_" + "0" * 40}
    tests = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(arguments or [HERE]), env=environment)
    code = await tests.wait()
    server.close()
    return code


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_health(server, url):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return urllib.request.urlopen(url + "/health", timeout=2).read()
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)


def agent_token(data, sandbox):
    with sqlite3.connect(f"file:{data}/journal.db?mode=ro", uri=True) as journal:
        (entry,) = journal.execute("SELECT entry FROM sandbox WHERE id = ?", (sandbox.removeprefix("sb-"),)).fetchone()
    return json.loads(entry)["accessToken"]


async def outer(arguments):
    directory = tempfile.mkdtemp(prefix="martlet-sdk-", dir="/var/tmp")
    # VMMs run as other users and need to traverse it.
    os.chmod(directory, 0o711)
    data = os.path.join(directory, "data")
    url = f"http://127.0.0.1:{free_port()}"
    environment = os.environ | {"MARTLET_DATA_DIR": data, "MARTLET_URL": url}
    environment.pop("MARTLET_IMAGE_DIR", None)
    with open(os.path.join(directory, "server.log"), "wb") as log:
        server = subprocess.Popen(
            [MARTLET, "up", "--listen", url.removeprefix("http://"), "--data-dir", data, "--image-dir", IMAGES,
             "--no-demo"],
            stdout=log, stderr=log)
    try:
        await_health(server, url)
        create = [MARTLET, "create", "--template", "base", "--vcpus", "2", "--memory", "1024", "--json"]
        sandbox = json.loads(subprocess.check_output(create, env=environment))
        path = os.path.join(directory, "agent.sock")
        relay_server = await outer_relay(path, sandbox["host_ip"], agent_token(data, sandbox["id"]))
        tests = await asyncio.create_subprocess_exec(
            "unshare", "--net", "--", sys.executable, __file__, "--inner", path, *arguments)
        code = await tests.wait()
        relay_server.close()
        subprocess.run([MARTLET, "kill", "--all"], env=environment, stdout=subprocess.DEVNULL, check=True)
        return code
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inner"]:
        sys.exit(asyncio.run(inner(sys.argv[2], sys.argv[3:])))
    sys.exit(asyncio.run(outer(sys.argv[1:])))
