"""Tests the console (/test) and the documentation (/docs) of a real server in headless Chromium.

usage: run.py [DIRECTORY]

A user signs up, creates an API key and a sandbox, runs commands in it, transfers files, pauses and resumes it,
creates a snapshot, launches another sandbox from it, and deletes everything, all by the visible elements of the page.
No page may log an error to its console, send a request to another server, be wider than a phone, or break an
accessibility rule of axe. Screenshots are written to DIRECTORY, or to a temporary directory whose name is printed.
"""

import contextlib
import importlib.resources
import os
import re
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

from playwright.sync_api import expect, sync_playwright

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))

from server import Server  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
# A sandbox may have to be booted under emulation.
TIMEOUT_MS = 60_000
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
PERSON = {"Name": "Ada Example", "Email": "ada@example.test", "Password": "correct horse battery"}
AXE = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
# Elements of a page that extend beyond its width.
OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")].filter(each => each.getBoundingClientRect().right > width + 1)
    .map(each => `${each.tagName}#${each.id}.${each.className}`).slice(0, 10);
}"""


class Visit:
    """One browser context and the problems that occurred in it."""

    def __init__(self, browser, server, directory, **options):
        self.server = server
        self.directory = directory
        self.context = browser.new_context(base_url=server.url, accept_downloads=True, **options)
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page = self.context.new_page()
        self.problems = []
        self.page.on("console", self.check_message)
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.page.on("request", self.check_origin)
        self.page.on("websocket", self.check_origin)

    def check_message(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def check_origin(self, request):
        """Requests must go to this server. URLs with embedded content are no requests."""
        url = self.server.url
        own = (url + "/", url.replace("http:", "ws:") + "/", "data:", f"blob:{url}/")
        if not request.url.startswith(own):
            self.problems.append(f"request to {request.url}")

    def screenshot(self, name, whole=True):
        self.page.screenshot(path=os.path.join(self.directory, f"{name}.png"), full_page=whole)

    def button(self, name, exact=False):
        return self.page.get_by_role("button", name=name, exact=exact)

    def confirm(self, name):
        self.page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()

    def run(self, command, expected):
        self.page.get_by_label("Command").fill(command)
        self.page.keyboard.press("Enter")
        expect(self.page.locator("#output")).to_contain_text(expected)

    def ended(self):
        expect(self.button("Run", exact=True)).to_be_enabled()

    def check_width(self):
        wide = self.page.evaluate(OVERFLOW)
        assert not wide, f"wider than the page: {wide}"

    def check_access(self):
        """Checks axe's rules for WCAG 2 A and AA: contrast, names of controls, roles, order of headings."""
        self.page.evaluate(AXE)
        result = self.page.evaluate(
            "() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})")
        assert len(result["passes"]) > 5, "axe has checked no elements"
        violations = [
            f"{rule['id']}: {[node['target'] + [node['failureSummary']] for node in rule['nodes']][:3]}"
            for rule in result["violations"]]
        assert not violations, "\n".join(violations)

    def close(self):
        self.context.close()
        assert not self.problems, "\n".join(self.problems)


class ConsoleTests:
    """Each method that begins with `test_` is one test. They run in this order and depend on the earlier ones."""

    def __init__(self, browser, server, directory):
        self.browser = browser
        self.server = server
        self.directory = directory
        self.main = Visit(browser, server, directory, viewport=DESKTOP, color_scheme="light")

    @contextlib.contextmanager
    def visit(self, **options):
        visit = Visit(self.browser, self.server, self.directory, **options)
        try:
            yield visit
        finally:
            visit.context.close()
        assert not visit.problems, "\n".join(visit.problems)

    def test_headers(self):
        """Pages have a content security policy, and are not sent again if the client has them."""
        for path in ("/test", "/docs"):
            with urllib.request.urlopen(self.server.url + path, timeout=10) as response:
                policy, tag = response.headers["Content-Security-Policy"], response.headers["ETag"]
            assert "default-src 'none'" in policy and "unsafe" not in policy, policy
            request = urllib.request.Request(self.server.url + path, headers={"If-None-Match": tag})
            try:
                status = urllib.request.urlopen(request, timeout=10).status
            except urllib.error.HTTPError as error:
                status = error.code
            assert status == 304, f"{path} was sent again: {status}"

    def test_documentation(self):
        """/docs shows every operation, without internet access."""
        with self.visit(viewport=DESKTOP) as visit:
            visit.page.goto("/docs")
            expect(visit.page.locator(".opblock").first).to_be_visible()
            with urllib.request.urlopen(self.server.url + "/openapi.yaml", timeout=10) as response:
                operations = response.read().decode().count("\n      operationId: ")
            assert operations > 50, operations
            expect(visit.page.locator(".opblock")).to_have_count(operations)
            visit.screenshot("docs", whole=False)
            visit.page.locator("#operations-sandboxes-createSandbox .opblock-summary-control").click()
            expect(visit.page.locator("#operations-sandboxes-createSandbox .responses-wrapper").first).to_be_visible()
            visit.screenshot("docs-operation", whole=False)

    def test_start_page(self):
        """The page before log-in, used by keyboard, in dark colours."""
        with self.visit(viewport=DESKTOP, color_scheme="dark") as visit:
            visit.page.goto("/test")
            expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
            visit.screenshot("start-dark")
            visit.check_access()
            visit.page.get_by_role("tab", name="Sign up").focus()
            visit.page.keyboard.press("ArrowRight")
            expect(visit.page.get_by_role("tab", name="Log in")).to_be_focused()
            outline = visit.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", f"the focus is not visible: {outline}"
            expect(visit.page.get_by_role("tabpanel", name="Log in")).to_be_visible()

    def test_sign_up(self):
        page = self.main.page
        page.goto("/test")
        for label, value in PERSON.items():
            page.get_by_role("tabpanel", name="Sign up").get_by_label(label).fill(value)
        self.main.screenshot("sign-up")
        self.main.check_access()
        page.keyboard.press("Enter")
        expect(page.get_by_text(PERSON["Name"], exact=True)).to_be_visible()
        cookies = self.main.context.cookies()
        assert [(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [(True, "Strict")], cookies

    def test_key(self):
        page = self.main.page
        page.get_by_label("Name of the key").fill("laptop")
        self.main.button("Create key").click()
        expect(page.locator("#secret-text")).to_have_text(re.compile("^mrt_[0-9a-f]{40}$"))
        key = page.locator("#secret-text").inner_text()
        sandboxes = self.server.request("GET", "/v1/sandboxes", **{"X-API-Key": key})
        assert sandboxes == [], sandboxes
        self.main.screenshot("key")
        self.main.button("Done").click()
        expect(page.locator("#secret")).to_be_hidden()
        expect(page.get_by_role("list", name="API keys").get_by_text("laptop")).to_be_visible()

    def test_create(self):
        page = self.main.page
        page.get_by_label("Memory, MiB").fill("256")
        self.main.button("Create sandbox").click()
        expect(page.locator("#sandboxes .badge")).to_have_text("running")
        expect(page.get_by_label("Command")).to_be_visible()

    def test_exec(self):
        """Output appears while the command runs, standard input reaches it, and a command can be stopped."""
        self.main.run("uname -s; echo oops >&2; echo kept > /tmp/kept; exit 3", "exit code 3")
        expect(self.main.page.locator("#output .error")).to_have_text("oops\n")
        self.main.run("read word; echo first $word; cat; echo at end", "read word")
        self.main.page.get_by_label("Line for standard input").fill("grüße <b>x</b>")
        self.main.button("Send").click()
        expect(self.main.page.locator("#output")).to_contain_text("first grüße <b>x</b>")
        self.main.button("End of input").click()
        expect(self.main.page.locator("#output")).to_contain_text("at end")
        self.main.ended()
        self.main.run("echo $((6 * 7)) things; sleep 1000", "42 things")
        self.main.screenshot("exec")
        self.main.button("Stop", exact=True).click()
        expect(self.main.page.locator("#output")).to_contain_text("stopped")
        self.main.ended()

    def test_files(self):
        page = self.main.page
        page.get_by_role("tab", name="Files").click()
        expect(page.get_by_role("button", name="etc/")).to_be_visible()
        page.get_by_label("Directory", exact=True).fill("/tmp")
        self.main.button("List", exact=True).click()
        page.get_by_label("Upload into this directory").set_input_files(
            {"name": "up <i>.bin", "mimeType": "application/octet-stream", "buffer": bytes(range(256))})
        self.main.button("Upload", exact=True).click()
        expect(page.get_by_role("table", name="Files").get_by_text("up <i>.bin")).to_be_visible()
        self.main.screenshot("files")
        self.main.check_access()
        with page.expect_download() as download:
            self.main.button("Download up <i>.bin").click()
        with open(download.value.path(), "rb") as file:
            assert file.read() == bytes(range(256))

    def test_pause(self):
        page = self.main.page
        self.main.button("Ping").click()
        self.main.button("Pause").click()
        expect(page.locator("#sandboxes .badge")).to_have_text("paused")
        self.main.screenshot("paused")
        page.locator("#sandboxes").get_by_role("button", name="Resume").click()
        expect(page.locator("#sandboxes .badge")).to_have_text("running")
        page.get_by_role("tab", name="Run").click()
        self.main.button("Clear", exact=True).first.click()
        self.main.run("cat /tmp/kept", "kept\n— exit code 0")

    def test_snapshot(self):
        page = self.main.page
        page.locator("#sandboxes").get_by_role("button", name="Snapshot").click()
        page.get_by_role("dialog").get_by_label("Name").fill("warm")
        self.main.screenshot("dialog", whole=False)
        self.main.check_access()
        page.keyboard.press("Enter")
        expect(page.get_by_role("list", name="Snapshots").get_by_text("warm")).to_be_visible()
        self.main.button("Launch from warm").click()
        expect(page.locator("#sandboxes .badge")).to_have_text(["running", "running"])
        self.main.run("cat /tmp/kept", "kept\n— exit code 0")
        page.get_by_role("tab", name="Details").click()
        expect(page.locator("#facts")).to_contain_text("warm")
        self.main.screenshot("console")

    def test_dark(self):
        self.main.page.emulate_media(color_scheme="dark")
        self.main.page.get_by_role("tab", name="Run").click()
        self.main.screenshot("console-dark")
        self.main.check_access()
        self.main.page.emulate_media(color_scheme="light")

    def test_phone(self):
        """The same user on a phone: no element is wider than the page."""
        options = {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
        with self.visit(**options) as visit:
            visit.page.goto("/test")
            expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
            visit.check_width()
            visit.screenshot("phone-start")
            visit.page.get_by_role("tab", name="Log in").click()
            for label in ("Email", "Password"):
                visit.page.get_by_role("tabpanel", name="Log in").get_by_label(label).fill(PERSON[label])
            visit.page.get_by_role("tabpanel", name="Log in").get_by_role("button", name="Log in").click()
            expect(visit.page.locator("#sandboxes .badge")).to_have_count(2)
            visit.page.locator("#sandboxes .open").first.click()
            visit.run(
                "seq 1 5; echo a-line-that-is-long-enough-to-be-wider-than-any-phone-$(seq -s- 1 60)", "exit code 0")
            visit.check_width()
            visit.screenshot("phone")
            visit.screenshot("phone-workspace", whole=False)
            visit.page.get_by_role("tab", name="Files").click()
            expect(visit.page.get_by_role("button", name="etc/")).to_be_visible()
            visit.check_width()
            visit.screenshot("phone-files")
            visit.check_access()

    def test_removal(self):
        page = self.main.page
        self.main.button("Delete warm").click()
        self.main.confirm("Delete")
        expect(page.get_by_role("list", name="Snapshots").get_by_text("warm")).to_have_count(0)
        for left in (1, 0):
            page.locator("#sandboxes").get_by_role("button", name="Destroy").first.click()
            self.main.confirm("Destroy")
            expect(page.locator("#sandboxes .badge")).to_have_count(left)
        self.main.button("Delete key laptop").click()
        self.main.confirm("Delete")
        expect(page.get_by_role("list", name="API keys").get_by_text("laptop")).to_have_count(0)
        calls = page.locator("#log li")
        expect(calls.filter(has_text="DELETE")).to_have_count(4)
        self.main.screenshot("empty")

    def test_log_out(self):
        """Logging out removes the session cookie."""
        self.main.button("Log out").click()
        expect(self.main.page.get_by_role("tabpanel", name="Log in")).to_be_visible()
        assert self.main.context.cookies() == []
        self.main.page.reload()
        expect(self.main.page.get_by_role("heading", level=1)).to_be_visible()

    def test_clean(self):
        """No problem has occurred in all the tests above."""
        self.main.close()


def main(directory):
    os.makedirs(directory, exist_ok=True)
    expect.set_options(timeout=TIMEOUT_MS)
    server = Server("console", MARTLET_WARM_POOL="0")
    passed, failed = 0, 0
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
            tests = ConsoleTests(browser, server, directory)
            for name in [name for name in vars(ConsoleTests) if name.startswith("test_")]:
                begin = time.monotonic()
                try:
                    getattr(tests, name)()
                except Exception:
                    failed += 1
                    print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
                    tests.main.screenshot(f"failed-{name}")
                    # Later tests depend on this one.
                    break
                passed += 1
                print(f"{name} {time.monotonic() - begin:.1f} s", flush=True)
            browser.close()
    finally:
        if failed:
            server.show_log()
        left = server.stop()
    passed, failed = passed + (not left), failed + bool(left)
    if left:
        print(f"FAILED: resources left on the host: {left}")
    print(f"screenshots: {directory}")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="martlet-console-")))
