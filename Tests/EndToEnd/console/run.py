"""Walks the console (/test) and the documentation (/docs) of a real server in headless Chromium.

usage: run.py [DIRECTORY]

A person signs up, makes a key, makes a sandbox, runs commands in it, moves files, pauses and resumes it, keeps a snapshot, launches another
sandbox from it, deletes and destroys it all, by what is seen on the page. Meanwhile no page may write an error to its console, ask anything
of another server, be wider than a phone, or break a rule of accessibility that axe knows. Screenshots are written to DIRECTORY, or to a temporary one whose name is printed.
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
# A sandbox may have to be booted, on a machine that emulates.
PATIENCE_MS = 60_000
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
PERSON = {"Name": "Ada Example", "E-mail": "ada@example.test", "Password": "correct horse battery"}
AXE = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
# What of a page is wider than the page.
OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")].filter(each => each.getBoundingClientRect().right > width + 1)
    .map(each => `${each.tagName}#${each.id}.${each.className}`).slice(0, 10);
}"""


class Walk:
    """One browser context, and what went wrong in it."""

    def __init__(self, browser, server, directory, **options):
        self.server = server
        self.directory = directory
        self.context = browser.new_context(base_url=server.url, accept_downloads=True, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.problems = []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.problems.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.page.on("request", self.look_at)
        self.page.on("websocket", lambda socket: self.look_at(socket))

    def look_at(self, request):
        """Nothing may be asked of anybody else; what a page carries in itself is no request."""
        own = (self.server.url + "/", self.server.url.replace("http:", "ws:") + "/", "data:", f"blob:{self.server.url}/")
        if not request.url.startswith(own):
            self.problems.append(f"request to {request.url}")

    def shoot(self, name, whole=True):
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
        """What axe finds by the rules of WCAG 2 A and AA: contrast, names of controls, roles, order of headings."""
        self.page.evaluate(AXE)
        found = self.page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})")
        assert len(found["passes"]) > 5, "axe looked at nothing"
        told = [f"{each['id']}: {[node['target'] + [node['failureSummary']] for node in each['nodes']][:3]}" for each in found["violations"]]
        assert not told, "\n".join(told)

    def close(self):
        self.context.close()
        assert not self.problems, "\n".join(self.problems)


class Walks:
    """Each method that begins with `walk` is one test, in this order; later ones build on what earlier ones made."""

    def __init__(self, browser, server, directory):
        self.browser = browser
        self.server = server
        self.directory = directory
        self.main = Walk(browser, server, directory, viewport=DESKTOP, color_scheme="light")

    @contextlib.contextmanager
    def walk(self, **options):
        walk = Walk(self.browser, self.server, self.directory, **options)
        try:
            yield walk
        finally:
            walk.context.close()
        assert not walk.problems, "\n".join(walk.problems)

    def walk_headers(self):
        """Pages say what they may do, and are not sent twice."""
        for path in ("/test", "/docs"):
            with urllib.request.urlopen(self.server.url + path, timeout=10) as answer:
                policy, tag = answer.headers["Content-Security-Policy"], answer.headers["ETag"]
            assert "default-src 'none'" in policy and "unsafe" not in policy, policy
            request = urllib.request.Request(self.server.url + path, headers={"If-None-Match": tag})
            try:
                status = urllib.request.urlopen(request, timeout=10).status
            except urllib.error.HTTPError as error:
                status = error.code
            assert status == 304, f"{path} was sent again: {status}"

    def walk_documentation(self):
        """/docs shows every operation, without the internet."""
        with self.walk(viewport=DESKTOP) as walk:
            walk.page.goto("/docs")
            expect(walk.page.locator(".opblock").first).to_be_visible()
            with urllib.request.urlopen(self.server.url + "/openapi.yaml", timeout=10) as answer:
                operations = answer.read().decode().count("\n      operationId: ")
            assert operations > 50, operations
            expect(walk.page.locator(".opblock")).to_have_count(operations)
            walk.shoot("docs", whole=False)
            walk.page.locator("#operations-sandboxes-createSandbox .opblock-summary-control").click()
            expect(walk.page.locator("#operations-sandboxes-createSandbox .responses-wrapper").first).to_be_visible()
            walk.shoot("docs-operation", whole=False)

    def walk_strangers(self):
        """The first page, by keyboard, in light and dark."""
        with self.walk(viewport=DESKTOP, color_scheme="dark") as walk:
            walk.page.goto("/test")
            expect(walk.page.get_by_role("heading", level=1)).to_be_visible()
            walk.shoot("stranger-dark")
            walk.check_access()
            walk.page.get_by_role("tab", name="Sign up").focus()
            walk.page.keyboard.press("ArrowRight")
            expect(walk.page.get_by_role("tab", name="Log in")).to_be_focused()
            outline = walk.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", f"the focus is not seen: {outline}"
            expect(walk.page.get_by_role("tabpanel", name="Log in")).to_be_visible()

    def walk_sign_up(self):
        page = self.main.page
        page.goto("/test")
        for label, value in PERSON.items():
            page.get_by_role("tabpanel", name="Sign up").get_by_label(label).fill(value)
        self.main.shoot("sign-up")
        self.main.check_access()
        page.keyboard.press("Enter")
        expect(page.get_by_text(PERSON["Name"], exact=True)).to_be_visible()
        cookies = self.main.context.cookies()
        assert [(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [(True, "Strict")], cookies

    def walk_key(self):
        page = self.main.page
        page.get_by_label("Name of the key").fill("laptop")
        self.main.button("Create key").click()
        expect(page.locator("#secret-text")).to_have_text(re.compile("^mrt_[0-9a-f]{40}$"))
        key = page.locator("#secret-text").inner_text()
        sandboxes = self.server.request("GET", "/v1/sandboxes", **{"X-API-Key": key})
        assert sandboxes == [], sandboxes
        self.main.shoot("key")
        self.main.button("Done").click()
        expect(page.locator("#secret")).to_be_hidden()
        expect(page.get_by_role("list", name="API keys").get_by_text("laptop")).to_be_visible()

    def walk_create(self):
        page = self.main.page
        page.get_by_label("Memory, MiB").fill("256")
        self.main.button("Create sandbox").click()
        expect(page.locator("#sandboxes .badge")).to_have_text("running")
        expect(page.get_by_label("Command")).to_be_visible()

    def walk_exec(self):
        """Output comes while the command runs, standard input goes in, and a command can be stopped."""
        self.main.run("uname -s; echo oops >&2; echo kept > /tmp/kept; exit 3", "ended with 3")
        expect(self.main.page.locator("#output .error")).to_have_text("oops\n")
        self.main.run("read word; echo first $word; cat; echo at end", "read word")
        self.main.page.get_by_label("Line for standard input").fill("grüße <b>x</b>")
        self.main.button("Send").click()
        expect(self.main.page.locator("#output")).to_contain_text("first grüße <b>x</b>")
        self.main.button("End of input").click()
        expect(self.main.page.locator("#output")).to_contain_text("at end")
        self.main.ended()
        self.main.run("echo $((6 * 7)) things; sleep 1000", "42 things")
        self.main.shoot("exec")
        self.main.button("Stop", exact=True).click()
        expect(self.main.page.locator("#output")).to_contain_text("stopped")
        self.main.ended()

    def walk_files(self):
        page = self.main.page
        page.get_by_role("tab", name="Files").click()
        expect(page.get_by_role("button", name="etc/")).to_be_visible()
        page.get_by_label("Directory", exact=True).fill("/tmp")
        self.main.button("List", exact=True).click()
        page.get_by_label("Upload into this directory").set_input_files(
            {"name": "up <i>.bin", "mimeType": "application/octet-stream", "buffer": bytes(range(256))})
        self.main.button("Upload", exact=True).click()
        expect(page.get_by_role("table", name="Files").get_by_text("up <i>.bin")).to_be_visible()
        self.main.shoot("files")
        self.main.check_access()
        with page.expect_download() as download:
            self.main.button("Download up <i>.bin").click()
        with open(download.value.path(), "rb") as file:
            assert file.read() == bytes(range(256))

    def walk_pause(self):
        page = self.main.page
        self.main.button("Ping").click()
        self.main.button("Pause").click()
        expect(page.locator("#sandboxes .badge")).to_have_text("paused")
        self.main.shoot("paused")
        page.locator("#sandboxes").get_by_role("button", name="Resume").click()
        expect(page.locator("#sandboxes .badge")).to_have_text("running")
        page.get_by_role("tab", name="Run").click()
        self.main.button("Clear", exact=True).first.click()
        self.main.run("cat /tmp/kept", "kept\n— ended with 0")

    def walk_snapshot(self):
        page = self.main.page
        page.locator("#sandboxes").get_by_role("button", name="Snapshot").click()
        page.get_by_role("dialog").get_by_label("Name").fill("warm")
        self.main.shoot("dialog", whole=False)
        self.main.check_access()
        page.keyboard.press("Enter")
        expect(page.get_by_role("list", name="Snapshots").get_by_text("warm")).to_be_visible()
        self.main.button("Launch from warm").click()
        expect(page.locator("#sandboxes .badge")).to_have_text(["running", "running"])
        self.main.run("cat /tmp/kept", "kept\n— ended with 0")
        page.get_by_role("tab", name="Facts").click()
        expect(page.locator("#facts")).to_contain_text("warm")
        self.main.shoot("console")

    def walk_dark(self):
        self.main.page.emulate_media(color_scheme="dark")
        self.main.page.get_by_role("tab", name="Run").click()
        self.main.shoot("console-dark")
        self.main.check_access()
        self.main.page.emulate_media(color_scheme="light")

    def walk_phone(self):
        """The same person on a phone: nothing is wider than the page."""
        options = {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
        with self.walk(**options) as walk:
            walk.page.goto("/test")
            expect(walk.page.get_by_role("heading", level=1)).to_be_visible()
            walk.check_width()
            walk.shoot("phone-stranger")
            walk.page.get_by_role("tab", name="Log in").click()
            for label in ("E-mail", "Password"):
                walk.page.get_by_role("tabpanel", name="Log in").get_by_label(label).fill(PERSON[label])
            walk.page.get_by_role("tabpanel", name="Log in").get_by_role("button", name="Log in").click()
            expect(walk.page.locator("#sandboxes .badge")).to_have_count(2)
            walk.page.locator("#sandboxes .open").first.click()
            walk.run("seq 1 5; echo a-line-that-is-long-enough-to-be-wider-than-any-phone-$(seq -s- 1 60)", "ended with 0")
            walk.check_width()
            walk.shoot("phone")
            walk.shoot("phone-workspace", whole=False)
            walk.page.get_by_role("tab", name="Files").click()
            expect(walk.page.get_by_role("button", name="etc/")).to_be_visible()
            walk.check_width()
            walk.shoot("phone-files")
            walk.check_access()

    def walk_removal(self):
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
        self.main.shoot("empty")

    def walk_leave(self):
        """Logging out takes the session from the browser."""
        self.main.button("Log out").click()
        expect(self.main.page.get_by_role("tabpanel", name="Log in")).to_be_visible()
        assert self.main.context.cookies() == []
        self.main.page.reload()
        expect(self.main.page.get_by_role("heading", level=1)).to_be_visible()

    def walk_clean(self):
        """In all of that."""
        self.main.close()


def main(directory):
    os.makedirs(directory, exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    server = Server("console", MARTLET_WARM_POOL="0")
    passed, failed = 0, 0
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
            walks = Walks(browser, server, directory)
            for name in [name for name in vars(Walks) if name.startswith("walk_")]:
                begin = time.monotonic()
                try:
                    getattr(walks, name)()
                except Exception:
                    failed += 1
                    print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
                    walks.main.shoot(f"failed-{name}")
                    # Later walks build on this one.
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
        print(f"FAILED: left on the host: {left}")
    print(f"screenshots: {directory}")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="martlet-console-")))
