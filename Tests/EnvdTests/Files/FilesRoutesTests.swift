import CLinux
import Glibc
import LinuxSystem
import SystemPackage
import Testing

@testable import Envd

/// Runs as root, in a temporary directory, against a real server.
@Suite("/files routes", .serialized)
struct FilesRoutesTests {
  @Test("a raw upload creates the parents (0755) and the file (0644), owned by the user")
  func rawUpload() async throws {
    try await withFileServer { port, directory in
      let response = try await Self.upload(port, directory, path: "a/b/c.txt", "content")
      #expect(response.status == 200)
      #expect(
        response.text == "[{\"name\":\"c.txt\",\"path\":\"\(directory.path("home"))/a/b/c.txt\",\"type\":\"file\"}]")
      #expect(try directory.read("home/a/b/c.txt") == Array("content".utf8))
      let file = try directory.status("home/a/b/c.txt")
      #expect(file.st_mode & 0o7777 == 0o644 && file.st_uid == 1234 && file.st_gid == 1235)
      let parent = try directory.status("home/a")
      #expect(parent.st_mode & 0o7777 == 0o755 && parent.st_uid == 1234 && parent.st_gid == 1235)
    }
  }

  @Test("a multipart upload writes every part named file; a query path replaces one file name and is refused for two")
  func multipart() async throws {
    try await withFileServer { port, directory in
      let url = "http://127.0.0.1:\(port)/files"
      let parts = ["-F", "file=one;filename=m/1", "-F", "note=x", "-F", "file=two;filename=\(directory.path("abs"))"]
      let response = try await Curl.run(directory, parts + [url])
      #expect(response.status == 200)
      #expect(try directory.read("home/m/1") == Array("one".utf8))
      #expect(try directory.read("abs") == Array("two".utf8))
      #expect(try await Curl.run(directory, ["-F", "file=x;filename=ignored", url + "?path=won"]).status == 200)
      #expect(try directory.read("home/won") == Array("x".utf8))
      #expect(try await Curl.run(directory, parts + [url + "?path=won"]).status == 400)
    }
  }

  @Test(
    "bad requests get their status and a JSON error",
    arguments: [
      (["-d", "x", "-H", "Content-Type: text/plain"], "path=f", 400),
      (["-d", "x", "-H", "Content-Type: application/octet-stream"], "", 400),
      (["-d", "x", "-H", "Content-Type: application/octet-stream"], "path=a%00b", 400),
      (["-d", "x", "-H", "Content-Type: application/octet-stream"], "path=f&username=ghost", 401),
      (["-d", "x", "-H", "Content-Type: application/octet-stream", "-H", "Content-Encoding: br"], "path=f", 400),
      (
        ["-d", "not gzip", "-H", "Content-Type: application/octet-stream", "-H", "Content-Encoding: gzip"], "path=f",
        400
      ),
      (["-d", "x", "-H", "Content-Type: application/octet-stream", "-H", "X-Metadata-a: ä"], "path=f", 400),
      (["-d", "x", "-H", "Content-Type: application/octet-stream"], "path=/proc", 400),
      (["-d", "x", "-H", "Content-Type: application/octet-stream"], "path=/dev/null/x", 400),
      (["-d", "--b\r\nbroken", "-H", "Content-Type: multipart/form-data; boundary=b"], "", 400),
      ([], "path=missing", 404), ([], "path=/", 400), ([], "path=/dev/null", 400), ([], "path=%zz", 400),
      ([], "path=~root/x", 400),
      ([], "path=\(String(repeating: "n", count: 300))", 400),
    ])
  func badRequests(arguments: [String], query: String, status: Int) async throws {
    try await withFileServer { port, directory in
      let response = try await Curl.run(directory, arguments + ["http://127.0.0.1:\(port)/files?\(query)"])
      #expect(response.status == status)
      #expect(response.text.hasPrefix("{\"code\":\(status),\"message\":\""))
      #expect(access(directory.path("home/f"), F_OK) != 0)
    }
  }

  @Test("downloads have length, name and validators, and support ranges and HEAD")
  func download() async throws {
    try await withFileServer { port, directory in
      try directory.write("0123456789", to: "home/digits.txt")
      let url = "http://127.0.0.1:\(port)/files?path=digits.txt"
      let whole = try await Curl.run(directory, [url])
      #expect(whole.status == 200 && whole.text == "0123456789")
      for line in [
        "content-length: 10\r\n", "vary: accept-encoding", "accept-ranges: bytes", "filename=\"digits.txt\"",
        "text/plain",
      ] {
        #expect(whole.head.contains(line))
      }
      let part = try await Curl.run(directory, ["-r", "2-4", url])
      #expect(part.status == 206 && part.text == "234" && part.head.contains("content-range: bytes 2-4/10"))
      let beyond = try await Curl.run(directory, ["-r", "10-", url])
      #expect(beyond.status == 416 && beyond.head.contains("content-range: bytes */10"))
      let head = try await Curl.run(directory, ["-I", url])
      #expect(head.status == 200 && head.text.lowercased().contains("content-length: 10\r\n"))
      let tag =
        whole.head.split(separator: "\r\n").first { $0.hasPrefix("etag: ") }.map { String($0.dropFirst(6)) } ?? ""
      #expect(try await Curl.run(directory, ["-H", "If-None-Match: \(tag)", url]).status == 304)
      #expect(try await Curl.run(directory, ["-r", "2-4", "-H", "If-Range: \"old\"", url]).status == 200)
    }
  }

  @Test("files that report no size and empty files are read to their end")
  func specialSizes() async throws {
    try await withFileServer { port, directory in
      #expect(
        try await Curl.run(directory, ["http://127.0.0.1:\(port)/files?path=/proc/version"]).text.hasPrefix("Linux"))
      try directory.write("", to: "home/empty")
      let empty = try await Curl.run(directory, ["http://127.0.0.1:\(port)/files?path=empty"])
      #expect(empty.status == 200 && empty.body.isEmpty && empty.head.contains("content-length: 0\r\n"))
    }
  }

  @Test("gzip is used when accepted and worthwhile, and works in both directions")
  func gzip() async throws {
    try await withFileServer { port, directory in
      let text = String(repeating: "all work and no play\n", count: 20_000)
      try directory.write(text, to: "home/text")
      try directory.write((0..<50_000).map { _ in UInt8.random(in: 0...255) }, to: "home/random")
      let url = "http://127.0.0.1:\(port)/files?path="
      let gzipped = try await Curl.run(directory, ["-H", "Accept-Encoding: gzip", url + "text"])
      #expect(gzipped.head.contains("content-encoding: gzip") && gzipped.body.count < text.utf8.count / 10)
      #expect(try GzipTests.inflate(gzipped.body, chunk: 1_000) == Array(text.utf8))
      #expect(
        try await !Curl.run(directory, ["-H", "Accept-Encoding: gzip", url + "random"]).head.contains(
          "content-encoding"))
      #expect(try await !Curl.run(directory, [url + "text"]).head.contains("content-encoding"))
      #expect(try await Curl.run(directory, ["-H", "Accept-Encoding: identity;q=0", url + "text"]).status == 406)
      try directory.write(gzipped.body, to: "text.gz")
      let upload = ["-H", "Content-Type: application/octet-stream", "-H", "Content-Encoding: gzip"]
      #expect(
        try await Curl.run(directory, upload + ["--data-binary", "@" + directory.path("text.gz"), url + "copy"]).status
          == 200)
      #expect(try directory.read("home/copy") == Array(text.utf8))
    }
  }

  @Test("with a token, /files needs the token or a signature")
  func tokens() async throws {
    try await withFileServer(accessToken: "secret") { port, directory in
      try directory.write("x", to: "home/f")
      let url = "http://127.0.0.1:\(port)/files?path=f"
      let missing = try await Curl.run(directory, [url])
      #expect(
        missing.status == 401 && missing.text == "{\"code\":401,\"message\":\"missing signature query parameter\"}")
      #expect(try await Curl.run(directory, ["-H", "X-Access-Token: wrong", url]).status == 401)
      #expect(try await Curl.run(directory, ["-H", "X-Access-Token: secret", url]).text == "x")
      let expired = AccessSignature(path: "f", operation: .read, username: nil).value(token: "secret", expiration: 1)
      let query = "&signature_expiration=1&signature=" + expired.map { $0 == "+" ? "%2B" : String($0) }.joined()
      #expect(
        try await Curl.run(directory, [url + query]).text
          == "{\"code\":401,\"message\":\"signature is already expired\"}")
      #expect(try await Curl.run(directory, ["-d", "{}", "http://127.0.0.1:\(port)/files/compose"]).status == 401)
    }
  }

  @Test("compose concatenates and deletes the sources, and changes nothing when one is missing")
  func compose() async throws {
    try await withFileServer { port, directory in
      try directory.write("one", to: "home/1")
      try directory.write("two", to: "home/2")
      let url = "http://127.0.0.1:\(port)/files/compose"
      let missing = try await Curl.run(directory, ["-d", #"{"source_paths":["1","none"],"destination":"out"}"#, url])
      #expect(missing.status == 404)
      #expect(try Directories.names(in: .init(directory.path("home"))).sorted() == ["1", "2"])
      let response = try await Curl.run(directory, ["-d", #"{"source_paths":["1","2"],"destination":"d/out"}"#, url])
      #expect(response.status == 200)
      #expect(try directory.read("home/d/out") == Array("onetwo".utf8))
      #expect(try directory.status("home/d/out").st_uid == 1234)
      #expect(try Directories.names(in: .init(directory.path("home"))) == ["d"])
      #expect(try await Curl.run(directory, ["-d", "[]", url]).status == 400)
    }
  }

  @Test("a file reached through a symbolic or hard link is written but keeps its owner")
  func links() async throws {
    try await withFileServer { port, directory in
      try directory.write("secret", to: "foreign")
      try directory.write("secret", to: "foreign2")
      symlink(directory.path("foreign"), directory.path("home/soft"))
      link(directory.path("foreign2"), directory.path("home/hard"))
      for name in ["soft", "hard"] { #expect(try await Self.upload(port, directory, path: name, "new").status == 200) }
      #expect(try directory.read("foreign") == Array("new".utf8))
      #expect(try directory.status("foreign").st_uid == 0)
      #expect(try directory.status("foreign2").st_uid == 0)
    }
  }

  @Test("a full disk gives status 507, and no incomplete file remains")
  func fullDisk() async throws {
    try await withFileServer { port, directory in
      try directory.makeDirectory("home/small")
      try await Tool.run("mount", ["-t", "tmpfs", "-o", "size=1m", "none", directory.path("home/small")]).checked()
      try directory.write([UInt8](repeating: 1, count: 2_000_000), to: "large")
      let response = try await Curl.run(
        directory,
        [
          "-H", "Content-Type: application/octet-stream", "--data-binary", "@" + directory.path("large"),
          "http://127.0.0.1:\(port)/files?path=small/f",
        ])
      let left = try Directories.names(in: .init(directory.path("home/small")))
      try await Tool.run("umount", [directory.path("home/small")]).checked()
      #expect(response.status == 507)
      #expect(left == [])
    }
  }

  @Test("an upload that breaks off leaves no file", arguments: ["Content-Length: 1000", "Transfer-Encoding: chunked"])
  func brokenUpload(framing: String) async throws {
    try await withFileServer { port, directory in
      let head =
        "POST /files?path=broken HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n\(framing)\r\n\r\n"
      _ = try await Tool.run(
        "bash", ["-c", "exec 3<>/dev/tcp/127.0.0.1/\(port); printf '\(head)5\\r\\nhello\\r\\n' >&3; sleep 0.3"])
      let deadline = ContinuousClock.now + .seconds(10)
      while access(directory.path("home/broken"), F_OK) == 0, ContinuousClock.now < deadline {
        try await Task.sleep(for: .milliseconds(20))
      }
      #expect(access(directory.path("home/broken"), F_OK) != 0)
    }
  }

  @Test("64 MiB are uploaded and downloaded unchanged within 48 MiB of memory")
  func large() async throws {
    try await withFileServer { port, directory in
      _ = try await Tool.run("dd", ["if=/dev/urandom", "of=" + directory.path("large"), "bs=1M", "count=64"]).checked()
      let url = "http://127.0.0.1:\(port)/files?path=copy"
      let before = try Self.peakMemoryBytes(reset: true)
      let upload = ["-H", "Content-Type: application/octet-stream", "-T", directory.path("large"), "-X", "POST", url]
      #expect(try await Curl.run(directory, upload).status == 200)
      _ = try await Tool.run("curl", ["-sf", "-o", directory.path("back"), url]).checked()
      #expect(try Self.peakMemoryBytes(reset: false) - before < 48 << 20)
      for copy in ["home/copy", "back"] {
        try await Tool.run("cmp", [directory.path("large"), directory.path(copy)]).checked()
      }
    }
  }

  private static func upload(
    _ port: Int, _ directory: TemporaryDirectory, path: String, _ text: String
  ) async throws -> CurlResponse {
    let url = "http://127.0.0.1:\(port)/files?path=\(path)"
    return try await Curl.run(directory, ["-H", "Content-Type: application/octet-stream", "--data-binary", text, url])
  }

  /// VmHWM of this process; `reset` first sets it to the present size. Source: proc_pid_clear_refs(5)
  private static func peakMemoryBytes(reset: Bool) throws -> Int {
    if reset { try SmallFile.write("5", to: "/proc/self/clear_refs") }
    let line = try SmallFile.readText("/proc/self/status").split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1_024
  }
}
