"""Checks a real server against the OpenAPI document that it serves (/openapi.yaml).

usage: run.py [schemathesis options]

openapi-spec-validator validates the document. schemathesis generates valid and invalid requests from it: without
credentials, with an API key, as an administrator, and for one existing sandbox; one request at a time, and the same
requests in every run. No response may be a 5xx, undocumented, of another format than documented, or late. The team's
quota is two sandboxes, so that the machine has resources for the sandboxes that the tests create.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))

from server import Server  # noqa: E402

REQUEST_SECONDS = 60
# For thousands of requests on a busy machine; only a hang takes longer.
RUN_SECONDS = 600
CHECKS = ",".join([
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance", "negative_data_rejection",
    "ignored_auth",
])
QUOTA = {"max_sandboxes": 2, "max_vcpus": 4, "max_memory_mb": 1024, "max_disk_mb": 12_288}
# Otherwise schemathesis signs up for an account.
NO_ACCOUNT = "[auth]\nauto-signup = false\n"
# schemathesis takes ids from responses, so these would end the session, the key, the administrator or the team that the
# tests use. They run last.
FINAL = ["changePassword", "deleteKey", "deleteTeam", "adminSetQuota", "adminUpdateUser"]
# These would destroy the sandbox under test or exceed the quota. They run last too.
FATAL = ["destroySandbox", "forkSandbox", "killProcess"]
# Operations that must succeed at least once on the running sandbox.
REACHED = [f"{method} /v1/sandboxes/{{id}}{rest}" for method, rest in [
    ("GET", ""), ("GET", "/metrics"), ("GET", "/processes"), ("POST", "/pause"), ("POST", "/resume"),
    ("POST", "/ping"), ("POST", "/timeout"),
    ("POST", "/exec"), ("POST", "/files/list"), ("POST", "/files/stat"), ("POST", "/files/mkdir"),
    ("POST", "/files/write"), ("POST", "/files/stream/write"), ("POST", "/files/read"),
    ("POST", "/files/stream/read"), ("POST", "/files/remove"),
]]


class Contract:
    def __init__(self, server, options):
        self.server = server
        self.options = options
        self.passed = 0
        self.failed = 0
        self.requests = 0

    def count(self, name, is_good):
        self.passed += is_good
        self.failed += not is_good
        if not is_good:
            print(f"FAILED: {name}", flush=True)

    def check_document(self):
        path = os.path.join(self.server.directory, "openapi.yaml")
        urllib.request.urlretrieve(self.server.url + "/openapi.yaml", path)
        command = [sys.executable, "-m", "openapi_spec_validator", path]
        self.count("the document is valid OpenAPI", subprocess.run(command, timeout=60).returncode == 0)

    def schemathesis(self, name, examples, *arguments, configuration="", reaching=()):
        """Runs schemathesis in an empty directory that contains only its configuration. Each operation of `reaching`
        must succeed at least once: error responses alone would test little of a sandbox."""
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as directory:
            settings, report = os.path.join(directory, "schemathesis.toml"), os.path.join(directory, "report.json")
            with open(settings, "w") as file:
                file.write(configuration)
            command = [
                sys.executable, "-m", "schemathesis.cli", "--config-file", settings,
                "run", self.server.url + "/openapi.yaml", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing",
                "-n", str(examples), "--generation-deterministic", "--warnings", "off",
                "--request-timeout", str(REQUEST_SECONDS), "--suppress-health-check", "all", "--workers", "1",
                "--no-color", "--no-shrink", "--report", "json", "--report-json-path", report,
                *arguments, *self.options]
            try:
                code = subprocess.run(command, cwd=directory, timeout=RUN_SECONDS).returncode
            except subprocess.TimeoutExpired:
                return self.count(f"{name}: not finished after {RUN_SECONDS} s", False)
            with open(report) as file:
                results = json.load(file)
        self.requests += results["test_cases"]["generated"]
        self.count(f"{name}: exit status {code}", code == 0)
        self.count(f"{name}: no request was made", results["test_cases"]["generated"] > 0)
        for operation in reaching:
            phases = results["valid_rates"].get(operation, {}).values()
            self.count(f"{name}: {operation} never succeeded", sum(phase["accepted"] for phase in phases) > 0)


def including(operations):
    return [word for name in operations for word in ("--include-operation-id", name)]


def excluding(operations):
    return [word for name in operations for word in ("--exclude-operation-id", name)]


def check(contract):
    server = contract.server
    session = server.log_in()
    administrator = {"Authorization": f"Bearer {session['token']}"}
    server.request("PATCH", f"/v1/admin/teams/{session['team_id']}", {"quota": QUOTA}, **administrator)
    key = {"X-API-Key": server.credentials["api_key"]}
    with_key = ["-H", f"X-API-Key: {key['X-API-Key']}"]
    with_session = ["-H", f"Authorization: {administrator['Authorization']}"]

    contract.check_document()
    contract.schemathesis("without credentials", 5, configuration=NO_ACCOUNT)
    contract.schemathesis("as a new user", 5, *excluding(FINAL))
    contract.schemathesis("as an administrator", 10, *with_session, *excluding(FINAL))
    contract.schemathesis("with an API key", 5, *with_key, *excluding(FINAL))
    for sandbox in server.request("GET", "/v1/sandboxes", **key):
        server.request("DELETE", f"/v1/sandboxes/{sandbox['id']}", **key)
    sandbox = server.request("POST", "/v1/sandboxes", {"template": "minimal", "memory_mb": 256}, **key)["id"]
    paths = ["--include-path-regex", r"^/v1/sandboxes/\{id\}"]
    parameters = f'[parameters]\n"path.id" = "{sandbox}"\n'
    contract.schemathesis(
        "on one sandbox", 10, *with_key, *paths, *excluding(FATAL), configuration=parameters, reaching=REACHED)
    contract.schemathesis("destructive calls on the sandbox", 5, *with_key, *including(FATAL), configuration=parameters)
    contract.schemathesis("destructive calls on the team", 5, *with_session, *including(FINAL))
    contract.count("the server is still running", server.is_alive())


def main(options):
    server = Server("contract", MARTLET_RATE_LIMIT="0", MARTLET_WARM_POOL="0")
    contract = Contract(server, options)
    try:
        check(contract)
    finally:
        if contract.failed:
            server.show_log()
        left = server.stop()
    contract.count(f"no resources are left on the host: {left}", not left)
    print(f"{contract.requests} requests made")
    print(f"{contract.passed} passed, {contract.failed} failed")
    return 0 if contract.failed == 0 and contract.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
