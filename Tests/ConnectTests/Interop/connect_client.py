"""Calls every method of the demo server with the Connect client from PyPI.

usage: connect_client.py URL
Prints one line per check and exits with an exception at the first one that fails.
"""

import asyncio
import os
import sys

from connectrpc.client import ConnectClient, ConnectClientSync
from connectrpc.code import Code
from connectrpc.codec import proto_binary_codec, proto_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo
from protobuf.wkt import Empty, Int32Value, StringValue


def method(name, input_type, output_type, service="demo.Demo"):
    return MethodInfo(
        name=name,
        service_name=service,
        input=input_type,
        output=output_type,
        idempotency_level=IdempotencyLevel.UNKNOWN,
    )


ECHO = method("Echo", StringValue, StringValue)
COUNT = method("Count", Int32Value, Int32Value)
IDLE = method("Idle", Empty, StringValue)
JOIN = method("Join", StringValue, StringValue)
UPPER = method("Upper", StringValue, StringValue)
NOT_THERE = method("NotThere", StringValue, StringValue)


def fails(code, call):
    try:
        call()
    except ConnectError as error:
        assert error.code == code, f"expected {code}, got {error.code}: {error}"
        return error
    raise AssertionError(f"expected {code}, but the call succeeded")


def check_sync(url, codec):
    with ConnectClientSync(url, codec=codec, send_compression=None) as client:
        check_calls(client)
    with ConnectClientSync(url, codec=codec) as compressing:
        request = StringValue(value="a")
        fails(Code.UNIMPLEMENTED, lambda: compressing.execute_unary(request=request, method=ECHO))


def check_calls(client):
    response = client.execute_unary(request=StringValue(value="héllo"), method=ECHO)
    assert response.value == "héllo"

    for code in Code:
        request = StringValue(value=code.value)
        error = fails(code, lambda request=request: client.execute_unary(request=request, method=ECHO))
        assert "as requested" in str(error)

    fails(Code.UNIMPLEMENTED, lambda: client.execute_unary(request=StringValue(), method=NOT_THERE))
    fails(
        Code.DEADLINE_EXCEEDED,
        lambda: client.execute_unary(request=StringValue(value="sleep"), method=ECHO, timeout_ms=200),
    )

    numbers = client.execute_server_stream(request=Int32Value(value=500), method=COUNT)
    assert [number.value for number in numbers] == list(range(500))

    received = []

    def count_down():
        for number in client.execute_server_stream(request=Int32Value(value=-1), method=COUNT):
            received.append(number.value)

    fails(Code.OUT_OF_RANGE, count_down)
    assert received == [0]

    fails(
        Code.DEADLINE_EXCEEDED,
        lambda: list(client.execute_server_stream(request=Empty(), method=IDLE, timeout_ms=200)),
    )

    parts = (StringValue(value=part) for part in ["a", "b", "c"])
    assert client.execute_client_stream(request=parts, method=JOIN).value == "abc"

    parts = (StringValue(value=part) for part in ["a", "b"])
    assert [part.value for part in client.execute_bidi_stream(request=parts, method=UPPER)] == ["A", "B"]


async def check_async(url, codec):
    async with ConnectClient(url, codec=codec, send_compression=None) as client:
        response = await client.execute_unary(request=StringValue(value="a"), method=ECHO)
        assert response.value == "a"
        stream = client.execute_server_stream(request=Int32Value(value=10), method=COUNT)
        assert [number.value async for number in stream] == list(range(10))


def main():
    url = sys.argv[1]
    for codec in [proto_json_codec(), proto_binary_codec()]:
        check_sync(url, codec)
        print(f"{codec.name()}: synchronous client ok")
        asyncio.run(check_async(url, codec))
        print(f"{codec.name()}: asynchronous client ok")
    # The package's native threads sometimes abort the interpreter while it shuts down; by now every check has passed.
    sys.stdout.flush()
    os._exit(0)


main()
