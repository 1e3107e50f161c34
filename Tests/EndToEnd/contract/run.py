"""Holds a real server to the document that it serves (/openapi.yaml).

usage: run.py [schemathesis options]

openapi-spec-validator reads the document; schemathesis makes requests from it, honest and not: as a stranger, with a key, as an
administrator, and about one sandbox that exists, one request at a time. No answer may be a 5xx, undocumented or of another form, and
none may take long. The team may have two sandboxes, so that the machine has room for what the tests make.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.abspath(os.path.join(HERE, "..", "..", ".."))
MARTLET = os.path.join(REPOSITORY, "bin", "martlet")
TOOLS = os.path.dirname(sys.executable)
IMAGES = os.environ.get("MARTLET_IMAGE_DIR", "/var/lib/martlet/images")
START_SECONDS = 60
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
# Ids are learnt from answers, so these would end the session, the key or the team that the tests use.
LEAVE_ALONE = ["changePassword", "deleteKey", "deleteTeam", "adminSetQuota"]
# These would end the sandbox that is asked about, or make more machines than fit.
FATAL = ["destroySandbox", "forkSandbox", "killProcess"]


class Server:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="martlet-contract-", dir="/var/tmp")
        # VMMs run as other users and pass through.
        os.chmod(self.directory, 0o711)
        self.data = os.path.join(self.directory, "data")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        environment = os.environ | {"MARTLET_RATE_LIMIT": "0", "MARTLET_SPARES": "0"}
        with open(os.path.join(self.directory, "server.log"), "wb") as log:
            self.process = subprocess.Popen(
                [MARTLET, "up", "--listen", self.url.removeprefix("http://"), "--data-dir", self.data, "--image-dir", IMAGES, "--no-demo"],
                stdout=log, stderr=log, env=environment)
        self.await_health()
        with open(os.path.join(self.data, "credentials.json")) as file:
            self.credentials = json.load(file)
        self.token = self.log_in()

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
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"} | headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"null")

    def log_in(self):
        body = {"email": self.credentials["admin_email"], "password": self.credentials["admin_password"]}
        session = self.request("POST", "/v1/auth/login", body)
        self.team = session["team_id"]
        return session["token"]

    def show_log(self):
        with open(os.path.join(self.directory, "server.log")) as log:
            print("".join(line for line in log if " error " in line or " warning " in line)[-20_000:])

    def stop(self):
        environment = os.environ | {"MARTLET_DATA_DIR": self.data, "MARTLET_URL": self.url}
        subprocess.run([MARTLET, "kill", "--all"], env=environment, stdout=subprocess.DEVNULL)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        shutil.rmtree(self.directory, ignore_errors=True)


def without(operations):
    return [word for name in operations for word in ("--exclude-operation-id", name)]


def schemathesis(server, what, *options, configuration=""):
    """In an empty directory, where its configuration is all that it finds."""
    print(f"== {what}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "schemathesis.toml")
        with open(path, "w") as file:
            file.write(configuration)
        command = [
            os.path.join(TOOLS, "schemathesis"), "--config-file", path, "run", server.url + "/openapi.yaml", "--checks", CHECKS,
            "--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--warnings", "off",
            "--request-timeout", "60", "--suppress-health-check", "all", "--workers", "1", "--continue-on-failure", "--no-color",
            *without(LEAVE_ALONE), *options]
        return subprocess.run(command, cwd=directory).returncode


def main(options):
    server = Server()
    try:
        document = os.path.join(server.directory, "openapi.yaml")
        urllib.request.urlretrieve(server.url + "/openapi.yaml", document)
        codes = [subprocess.run([os.path.join(TOOLS, "openapi-spec-validator"), document]).returncode]
        session = {"Authorization": f"Bearer {server.token}"}
        server.request("PATCH", f"/v1/admin/teams/{server.team}", {"quota": {"max_sandboxes": 2}}, **session)
        key = ["-H", f"X-API-Key: {server.credentials['api_key']}"]
        codes.append(schemathesis(server, "as a stranger", "-n", "10", *options, configuration="[auth]\nauto-signup = false\n"))
        codes.append(schemathesis(server, "as an administrator", "-n", "20", "-H", f"Authorization: Bearer {server.token}", *options))
        sandbox = server.request("POST", "/v1/sandboxes", {"memory_mb": 256}, **{"X-API-Key": server.credentials["api_key"]})["id"]
        about = ["--include-path-regex", r"^/v1/sandboxes/\{id\}", *without(FATAL)]
        codes.append(
            schemathesis(server, "with a key, about a sandbox", "-n", "20", *key, *about, *options,
                         configuration=f'[parameters]\n"path.id" = "{sandbox}"\n'))
        codes.append(0 if server.process.poll() is None else 1)
        if any(codes):
            server.show_log()
        print(f"{codes.count(0)} passed, {len(codes) - codes.count(0)} failed")
        return 0 if not any(codes) else 1
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
