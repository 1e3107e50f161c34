"""A real server with its own data directory, for tests that use it from outside."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.request

REPOSITORY = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
MARTLET = os.path.join(REPOSITORY, "bin", "martlet")
IMAGES = os.environ.get("MARTLET_IMAGE_DIR", "/var/lib/martlet/images")
START_SECONDS = 60
STOP_SECONDS = 60
LEAVE_SECONDS = 20


class Server:
    """A running server. `stop` destroys its sandboxes and checks that no resources are left on the host."""

    def __init__(self, name, **settings):
        self.before = host_census()
        self.directory = tempfile.mkdtemp(prefix=f"martlet-{name}-", dir="/var/tmp")
        # VMMs run as other users and need to traverse it.
        os.chmod(self.directory, 0o711)
        self.data = os.path.join(self.directory, "data")
        self.log_path = os.path.join(self.directory, "server.log")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [MARTLET, "up", "--listen", self.url.removeprefix("http://"), "--data-dir", self.data,
                 "--image-dir", IMAGES, "--no-demo"],
                stdout=log, stderr=log, env=os.environ | settings)
        try:
            self.await_health()
            with open(os.path.join(self.data, "credentials.json")) as file:
                self.credentials = json.load(file)
        except BaseException:
            self.process.kill()
            self.process.wait()
            self.show_log()
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def await_health(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return urllib.request.urlopen(self.url + "/health", timeout=2).read()
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)

    def request(self, method, path, body=None, **headers):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | headers
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.loads(response.read() or b"null")

    def log_in(self):
        """Opens a session of the administrator that the server has created at its first start."""
        body = {"email": self.credentials["admin_email"], "password": self.credentials["admin_password"]}
        return self.request("POST", "/v1/auth/login", body)

    def is_alive(self):
        return self.process.poll() is None

    def show_log(self):
        with open(self.log_path, errors="replace") as log:
            print("".join(line for line in log if " error " in line or " warning " in line or "atal" in line)[-20_000:])

    def stop(self):
        """Destroys all sandboxes and stops the server. Returns the resources that remain on the host."""
        left = []
        try:
            self.take_over_sandboxes()
            environment = os.environ | {"MARTLET_DATA_DIR": self.data, "MARTLET_URL": self.url}
            killed = subprocess.run(
                [MARTLET, "kill", "--all"], env=environment, stdout=subprocess.DEVNULL, timeout=120)
            if killed.returncode != 0:
                left.append(f"martlet kill --all ended with {killed.returncode}")
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, sqlite3.Error) as error:
            left.append(f"the server did not stop properly: {error!r}")
            self.process.kill()
            self.process.wait()
        left += self.left_behind()
        shutil.rmtree(self.directory, ignore_errors=True)
        return left

    def take_over_sandboxes(self):
        """Gives all sandboxes to the administrator's team, so that `martlet kill --all` destroys those of other teams
        too. The API cannot move a sandbox to another team, so this changes the database."""
        path = os.path.join(self.data, "martlet.db")
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
            database.execute(
                "UPDATE sandboxes SET team_id = "
                "(SELECT team_id FROM memberships JOIN users ON users.id = user_id WHERE email = ? LIMIT 1) "
                "WHERE status NOT IN ('stopped', 'error')", (self.credentials["admin_email"],))

    def left_behind(self):
        deadline = time.monotonic() + LEAVE_SECONDS
        while True:
            left = sorted(host_census() - self.before) + processes_that_name(self.directory)
            if not left or time.monotonic() >= deadline:
                return left
            time.sleep(0.2)


def host_census():
    """The names of network namespaces and links: a sandbox's resources outside of its directory."""
    found = set()
    for kind, directory in (("namespace", "/run/netns"), ("link", "/sys/class/net")):
        with contextlib.suppress(FileNotFoundError):
            found |= {f"{kind} {name}" for name in os.listdir(directory)}
    return found


def processes_that_name(directory):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().replace(b"\0", b" ").decode(errors="replace")
            if directory in words:
                found.append(f"process {pid}: {words[:200]}")
    return found
