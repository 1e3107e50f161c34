"""Tests the guest agent's process service with the public E2B SDK.

Runs against http://localhost:49983 with E2B_DEBUG=true, which makes the SDK connect to the agent directly;
MARTLET_ENVD_URL names another agent. The guest needs bash and coreutils.
"""

import os
import threading
import time

import pytest

os.environ.setdefault("E2B_DEBUG", "true")
os.environ.setdefault("E2B_API_KEY", "e2b_" + "0" * 40)
if "MARTLET_ENVD_URL" in os.environ:
    os.environ.setdefault("E2B_SANDBOX_URL", os.environ["MARTLET_ENVD_URL"])

from e2b import AsyncSandbox, CommandExitException, PtySize, Sandbox, TimeoutException  # noqa: E402
from e2b.exceptions import AuthenticationException, InvalidArgumentException, SandboxException  # noqa: E402


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox.create()


def wait_until(condition, what, limit=10.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_alive(sandbox, pid):
    return sandbox.commands.run(f"kill -0 {pid} 2>/dev/null && echo yes || echo no").stdout.strip() == "yes"


def test_run_returns_output_and_code(sandbox):
    result = sandbox.commands.run("echo out; echo err >&2")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)
    assert not result.error


def test_non_zero_exit_raises(sandbox):
    with pytest.raises(CommandExitException) as failure:
        sandbox.commands.run("echo partial; exit 7")
    assert failure.value.exit_code == 7
    assert failure.value.stdout == "partial\n"
    assert failure.value.error == "exit status 7"


def test_non_utf8_and_split_characters(sandbox):
    text = "ü€𝄞" * 30_000
    result = sandbox.commands.run("cat", stdin=False)
    assert result.stdout == ""
    result = sandbox.commands.run("printf 'ü€𝄞%.0s' $(seq 30000)")
    assert result.stdout == text


def test_large_output_and_callbacks(sandbox):
    pieces = []
    result = sandbox.commands.run("seq 1 200000", on_stdout=pieces.append)
    assert "".join(pieces) == result.stdout
    assert result.stdout == "".join(f"{n}\n" for n in range(1, 200_001))


def test_streaming_is_live(sandbox):
    times = []
    sandbox.commands.run("echo a; sleep 0.6; echo b", on_stdout=lambda _: times.append(time.monotonic()))
    assert len(times) == 2
    assert times[1] - times[0] > 0.4


def test_environment_and_directory(sandbox):
    result = sandbox.commands.run('echo "$A|$E2B_SANDBOX|$(pwd)"', envs={"A": "a b"}, cwd="/tmp")
    assert result.stdout == "a b|true|/tmp\n"


def test_missing_directory(sandbox):
    with pytest.raises(InvalidArgumentException, match="cwd '/no/such' does not exist"):
        sandbox.commands.run("true", cwd="/no/such")


def test_user(sandbox):
    assert sandbox.commands.run("id -u", user="root").stdout == "0\n"
    with pytest.raises(AuthenticationException, match="invalid username: 'nosuchuser'"):
        sandbox.commands.run("true", user="nosuchuser")


def test_background_list_and_kill(sandbox):
    handle = sandbox.commands.run("echo started; sleep 300", background=True)
    assert handle.pid in [process.pid for process in sandbox.commands.list()]
    assert sandbox.commands.kill(handle.pid)
    with pytest.raises(CommandExitException) as failure:
        handle.wait()
    assert failure.value.exit_code == -1
    assert failure.value.error == "signal: killed"
    assert not is_alive(sandbox, handle.pid)
    assert not sandbox.commands.kill(handle.pid)
    assert handle.pid not in [process.pid for process in sandbox.commands.list()]


def test_wait_of_a_background_command(sandbox):
    handle = sandbox.commands.run("sleep 0.2; echo done", background=True)
    assert handle.wait().stdout == "done\n"


def test_stdin(sandbox):
    handle = sandbox.commands.run("cat", background=True, stdin=True)
    sandbox.commands.send_stdin(handle.pid, "one\n")
    sandbox.commands.send_stdin(handle.pid, "two\n")
    sandbox.commands.close_stdin(handle.pid)
    assert handle.wait().stdout == "one\ntwo\n"


@pytest.mark.skipif(
    not hasattr(Sandbox.create().commands, "stream_input"), reason="this version of the SDK cannot stream input")
def test_streamed_input(sandbox):
    handle = sandbox.commands.run("wc -c", background=True, stdin=True)
    sandbox.commands.stream_input(handle.pid, (b"x" * 10_000 for _ in range(100)))
    sandbox.commands.close_stdin(handle.pid)
    assert handle.wait().stdout.strip() == "1000000"


def test_stdin_ends_by_default(sandbox):
    assert sandbox.commands.run("cat; echo end").stdout == "end\n"


def test_time_out_kills(sandbox):
    # The command must have started before its time-out passes, also on a busy machine.
    started = time.monotonic()
    sandbox.commands.run("true")
    timeout = 0.7 + 10 * (time.monotonic() - started)
    started = time.monotonic()
    with pytest.raises(TimeoutException):
        sandbox.commands.run("echo $$ > /tmp/martlet-timeout.pid; exec sleep 300", timeout=timeout)
    assert time.monotonic() - started < timeout + 10
    pid = sandbox.commands.run("cat /tmp/martlet-timeout.pid; rm /tmp/martlet-timeout.pid").stdout.strip()
    wait_until(lambda: not is_alive(sandbox, pid), "the time-out kills the command")


def test_disconnect_and_connect(sandbox):
    handle = sandbox.commands.run("read x; echo got $x", background=True, stdin=True)
    handle.disconnect()
    assert is_alive(sandbox, handle.pid)
    again = sandbox.commands.connect(handle.pid)
    sandbox.commands.send_stdin(handle.pid, "it\n")
    assert again.wait().stdout == "got it\n"


def test_connect_after_the_end(sandbox):
    handle = sandbox.commands.run("exit 0", background=True)
    handle.wait()
    assert sandbox.commands.connect(handle.pid).wait().exit_code == 0
    with pytest.raises(SandboxException):
        sandbox.commands.connect(3_999_999)


def test_pty(sandbox):
    output = []
    handle = sandbox.pty.create(PtySize(rows=40, cols=100))
    reader = threading.Thread(target=lambda: collect(handle, output))
    reader.start()
    sandbox.pty.send_stdin(handle.pid, b"stty size\n")
    wait_until(lambda: b"40 100" in b"".join(output), "the terminal has its size")
    sandbox.pty.resize(handle.pid, PtySize(rows=50, cols=120))
    sandbox.pty.send_stdin(handle.pid, b"stty size; echo $TERM; exit 3\n")
    reader.join(timeout=10)
    assert not reader.is_alive()
    text = b"".join(output)
    assert b"50 120" in text
    assert b"xterm" in text


def collect(handle, output):
    try:
        handle.wait(on_pty=output.append)
    except CommandExitException as end:
        assert end.exit_code == 3


def test_kill_of_a_pty(sandbox):
    handle = sandbox.pty.create(PtySize(rows=24, cols=80))
    assert sandbox.pty.kill(handle.pid)
    with pytest.raises(CommandExitException):
        handle.wait()
    assert not sandbox.pty.kill(handle.pid)


@pytest.mark.parametrize("number", [1, 40])
def test_concurrent_commands(sandbox, number):
    results = []

    def run(index):
        results.append(sandbox.commands.run(f"echo {index}").stdout)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(results) == sorted(f"{index}\n" for index in range(number))


def test_asynchronous_client():
    import asyncio

    async def scenario():
        sandbox = await AsyncSandbox.create()
        pieces = []
        handle = await sandbox.commands.run("cat", background=True, stdin=True, on_stdout=pieces.append)
        await sandbox.commands.send_stdin(handle.pid, "hello")
        await sandbox.commands.close_stdin(handle.pid)
        result = await handle.wait()
        assert result.stdout == "hello"
        results = await asyncio.gather(*[sandbox.commands.run(f"echo {n}") for n in range(20)])
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(20)]

    asyncio.run(scenario())


def test_no_process_is_left(sandbox):
    wait_until(lambda: sandbox.commands.list() == [], "every command of these tests has ended")
