"""Tests the guest agent's file service with the public E2B SDK.

Runs against http://localhost:49983 with E2B_DEBUG=true, which makes the SDK connect to the agent directly. Works in a
new directory, which is removed afterwards.
"""

import asyncio
import io
import os
import time
import uuid

import pytest

os.environ.setdefault("E2B_DEBUG", "true")
os.environ.setdefault("E2B_API_KEY", "e2b_" + "0" * 40)

from e2b import AsyncSandbox, FileType, FilesystemEventType, Sandbox  # noqa: E402
from e2b.exceptions import FileNotFoundException, InvalidArgumentException, SandboxException  # noqa: E402


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox.create()


@pytest.fixture
def directory(sandbox):
    path = f"/tmp/e2b-files-{uuid.uuid4().hex}"
    sandbox.files.make_dir(path)
    yield path
    sandbox.files.remove(path)


@pytest.mark.parametrize("options", [{}, {"gzip": True}, {"use_octet_stream": True}])
@pytest.mark.parametrize("content", ["", "text with ü and \0", "x" * 300_000])
def test_write_and_read_text(sandbox, directory, content, options):
    info = sandbox.files.write(f"{directory}/sub/dir/file.txt", content, **options)
    assert info.path == f"{directory}/sub/dir/file.txt"
    assert info.name == "file.txt"
    assert sandbox.files.read(info.path) == content
    assert sandbox.files.read(info.path, gzip=True) == content


def test_all_byte_values_in_every_format(sandbox, directory):
    content = bytes(range(256)) * 40_000
    path = f"{directory}/bytes"
    sandbox.files.write(path, content)
    assert bytes(sandbox.files.read(path, format="bytes")) == content
    assert b"".join(sandbox.files.read(path, format="stream")) == content
    assert bytes(sandbox.files.read(path, format="bytes", gzip=True)) == content


@pytest.mark.parametrize("gzip", [False, True])
def test_streamed_upload(sandbox, directory, gzip):
    content = os.urandom(3_000_000)
    sandbox.files.write(f"{directory}/stream", io.BytesIO(content), gzip=gzip)
    assert bytes(sandbox.files.read(f"{directory}/stream", format="bytes")) == content


def test_overwriting_truncates(sandbox, directory):
    sandbox.files.write(f"{directory}/f", "long content")
    sandbox.files.write(f"{directory}/f", "short")
    assert sandbox.files.read(f"{directory}/f") == "short"


@pytest.mark.parametrize("octet", [False, True])
def test_write_several_files(sandbox, directory, octet):
    files = [{"path": f"{directory}/m/{i} ü.txt", "data": f"content {i}"} for i in range(12)]
    infos = sandbox.files.write_files(files, use_octet_stream=octet)
    assert [i.path for i in infos] == [f["path"] for f in files]
    for file in files:
        assert sandbox.files.read(file["path"]) == file["data"]


def test_missing_file(sandbox, directory):
    with pytest.raises(FileNotFoundException):
        sandbox.files.read(f"{directory}/missing")
    with pytest.raises(FileNotFoundException):
        sandbox.files.list(f"{directory}/missing")
    with pytest.raises(FileNotFoundException):
        sandbox.files.get_info(f"{directory}/missing")
    with pytest.raises(FileNotFoundException):
        sandbox.files.rename(f"{directory}/missing", f"{directory}/x")
    assert not sandbox.files.exists(f"{directory}/missing")
    sandbox.files.remove(f"{directory}/missing")


def test_directories_are_not_files(sandbox, directory):
    with pytest.raises(InvalidArgumentException):
        sandbox.files.read(directory)
    with pytest.raises(InvalidArgumentException):
        sandbox.files.write(directory, "x")
    sandbox.files.write(f"{directory}/f", "x")
    with pytest.raises((InvalidArgumentException, SandboxException)):
        sandbox.files.list(f"{directory}/f")


def test_make_dir_and_exists(sandbox, directory):
    assert sandbox.files.make_dir(f"{directory}/a/b/c") is True
    assert sandbox.files.make_dir(f"{directory}/a/b/c") is False
    assert sandbox.files.exists(f"{directory}/a/b")
    sandbox.files.write(f"{directory}/file", "")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.make_dir(f"{directory}/file")


def test_list_in_depth(sandbox, directory):
    for name in ["b/two", "a/x/deep", "a/one", "c"]:
        sandbox.files.write(f"{directory}/{name}", name)
    names = lambda depth: [e.path[len(directory) + 1 :] for e in sandbox.files.list(directory, depth=depth)]
    assert names(1) == ["a", "b", "c"]
    assert names(2) == ["a", "a/one", "a/x", "b", "b/two", "c"]
    assert names(3) == ["a", "a/one", "a/x", "a/x/deep", "b", "b/two", "c"]
    with pytest.raises(InvalidArgumentException):
        sandbox.files.list(directory, depth=0)


def test_entry_info(sandbox, directory):
    sandbox.files.write(f"{directory}/f.txt", "12345")
    info = sandbox.files.get_info(f"{directory}/f.txt")
    assert (info.name, info.type, info.path, info.size) == ("f.txt", FileType.FILE, f"{directory}/f.txt", 5)
    assert (info.mode, info.permissions) == (0o644, "-rw-r--r--")
    assert info.owner and info.group
    assert abs(info.modified_time.timestamp() - time.time()) < 300
    assert info.symlink_target is None
    directory_info = sandbox.files.get_info(directory)
    assert (directory_info.type, directory_info.permissions) == (FileType.DIR, "drwxr-xr-x")


def test_rename_and_remove(sandbox, directory):
    sandbox.files.write(f"{directory}/old", "x")
    info = sandbox.files.rename(f"{directory}/old", f"{directory}/new/place")
    assert info.path == f"{directory}/new/place"
    assert not sandbox.files.exists(f"{directory}/old")
    sandbox.files.remove(f"{directory}/new")
    assert not sandbox.files.exists(f"{directory}/new")


def test_metadata(sandbox, directory):
    path = f"{directory}/meta"
    info = sandbox.files.write(path, "x", metadata={"Author": "Ann", "purpose": "test"})
    assert info.metadata == {"author": "Ann", "purpose": "test"}
    assert sandbox.files.get_info(path).metadata == {"author": "Ann", "purpose": "test"}
    sandbox.files.write(path, "y", metadata={"other": "1"}, use_octet_stream=True)
    assert sandbox.files.get_info(path).metadata == {"other": "1"}
    assert sandbox.files.list(directory)[0].metadata == {"other": "1"}
    sandbox.files.write(path, "z")
    assert not sandbox.files.get_info(path).metadata


def test_sync_watch_sees_the_three_steps_of_a_write(sandbox, directory):
    handle = sandbox.files.watch_dir(directory)
    sandbox.files.write(f"{directory}/watched", "content")
    events = handle.get_new_events()
    assert [(e.name, e.type) for e in events] == [
        ("watched", FilesystemEventType.CREATE),
        ("watched", FilesystemEventType.CHMOD),
        ("watched", FilesystemEventType.WRITE),
    ]
    assert handle.get_new_events() == []
    sandbox.files.rename(f"{directory}/watched", f"{directory}/moved")
    sandbox.files.remove(f"{directory}/moved")
    assert [(e.name, e.type) for e in handle.get_new_events()] == [
        ("watched", FilesystemEventType.RENAME),
        ("moved", FilesystemEventType.CREATE),
        ("moved", FilesystemEventType.REMOVE),
    ]
    handle.stop()
    with pytest.raises(SandboxException):
        handle.get_new_events()


def test_recursive_watch_covers_new_directories_at_once(sandbox, directory):
    handle = sandbox.files.watch_dir(directory, recursive=True, include_entry=True)
    sandbox.files.write(f"{directory}/new/nested/file", "content")
    creations = [e for e in handle.get_new_events() if e.type == FilesystemEventType.CREATE]
    assert sorted(e.name for e in creations) == ["new", "new/nested", "new/nested/file"]
    assert {e.entry.path for e in creations if e.entry} == {f"{directory}/{e.name}" for e in creations}
    handle.stop()


def test_watching_a_missing_path_or_a_file(sandbox, directory):
    with pytest.raises(FileNotFoundException):
        sandbox.files.watch_dir(f"{directory}/missing")
    sandbox.files.write(f"{directory}/file", "x")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.watch_dir(f"{directory}/file")


@pytest.mark.parametrize("recursive", [False, True])
def test_async_watch(directory, recursive):
    async def scenario():
        sandbox = await AsyncSandbox.create()
        seen = asyncio.Queue()
        handle = await sandbox.files.watch_dir(directory, on_event=seen.put_nowait, recursive=recursive)
        name = "sub/file" if recursive else "file"
        await sandbox.files.write(f"{directory}/{name}", "x")
        while True:
            event = await asyncio.wait_for(seen.get(), timeout=10)
            if (event.name, event.type) == (name, FilesystemEventType.WRITE):
                break
        await handle.stop()
        assert await sandbox.files.read(f"{directory}/{name}") == "x"

    asyncio.run(scenario())


def test_relative_and_home_paths(sandbox):
    name = f"e2b-{uuid.uuid4().hex}"
    info = sandbox.files.write(f"{name}/f", "x", user="root")
    assert info.path == f"/root/{name}/f"
    assert sandbox.files.read(f"~/{name}/f", user="root") == "x"
    sandbox.files.remove(name, user="root")


def test_unknown_user(sandbox):
    with pytest.raises(Exception, match="nobody-here"):
        sandbox.files.read("/etc/passwd", user="nobody-here")
    with pytest.raises(Exception, match="invalid username: 'nobody-here'"):
        sandbox.files.list("/", user="nobody-here")
