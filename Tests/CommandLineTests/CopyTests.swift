import APIClient
import Concurrency
import FakeServer
import Foundation
import LinuxSystem
import Testing

@testable import CommandLine

@Suite("Paths of martlet cp")
struct CopyPathTests {
  @Test("a colon before any slash names a sandbox")
  func forms() throws {
    #expect(try CopyPath("-") == .standardStream)
    #expect(try CopyPath("a/b:c") == .local("a/b:c"))
    #expect(try CopyPath("./a:b") == .local("./a:b"))
    #expect(try CopyPath("/x") == .local("/x"))
    #expect(try CopyPath("sb-1:/tmp/x:y") == .remote(sandbox: "sb-1", path: "/tmp/x:y"))
    #expect(try CopyPath("abcd:rel") == .remote(sandbox: "abcd", path: "rel"))
  }

  @Test("empty parts are refused", arguments: ["", ":", ":/x", "abcd:"])
  func refused(_ text: String) {
    #expect(throws: APIError.self) { try CopyPath(text) }
  }

  @Test(
    "names with which a guest could leave the destination are not plain names",
    arguments: ["", ".", "..", "a/b", "/", "a\0b"])
  func hostileNames(_ name: String) {
    #expect(!CopyPath.isPlainName(name))
    #expect(CopyPath.isPlainName("..a") && CopyPath.isPlainName("a b"))
  }

  @Test("the base name of a path is its last component")
  func baseName() {
    #expect(CopyPath.baseName(of: "/a/b/") == "b")
    #expect(CopyPath.baseName(of: "/") == nil)
    #expect(CopyPath.baseName(of: "a/..") == nil)
  }
}

@Suite("martlet cp", .timeLimit(.minutes(1)))
struct CopyTests {
  private static let content = (0..<700_000).map { UInt8(truncatingIfNeeded: $0 &* 13) }

  private func write(_ bytes: [UInt8], _ path: String) throws {
    try Data(bytes).write(to: URL(filePath: path))
  }

  @Test("a file is copied in and out unchanged, with its permissions")
  func file() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    try await Invocation.inDirectory { directory in
      try write(Self.content, "\(directory)/f")
      chmod("\(directory)/f", 0o750)
      #expect(try await Invocation.run(["cp", "\(directory)/f", "\(id):/g"], on: server).code == 0)
      #expect(server.state.withLock { $0.files["/g"]?.bytes } == Self.content)
      #expect(server.state.withLock { $0.commands } == [["chmod", "750", "--", "/g"]])
      server.state.withLock { $0.files["/g"]?.mode = 0o700 }
      #expect(try await Invocation.run(["cp", "\(id):/g", "\(directory)/back"], on: server).code == 0)
      #expect([UInt8](try Data(contentsOf: URL(filePath: "\(directory)/back"))) == Self.content)
      let status = try await LocalFile.status("\(directory)/back", followingLinks: false)
      #expect(status?.mode == 0o700)
    }
  }

  @Test("a file is copied into a directory under its own name")
  func intoDirectory() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    server.state.withLock { $0.files["/tmp"] = .init(bytes: nil) }
    try await Invocation.inDirectory { directory in
      try write([1], "\(directory)/f")
      #expect(try await Invocation.run(["cp", "\(directory)/f", "\(id):/tmp"], on: server).code == 0)
      #expect(try await Invocation.run(["cp", "\(directory)/f", "\(id):/new/"], on: server).code == 0)
      #expect(server.state.withLock { $0.files["/tmp/f"]?.bytes == [1] && $0.files["/new/f"]?.bytes == [1] })
      #expect(try await Invocation.run(["cp", "\(id):/tmp/f", directory + "/"], on: server).code == 0)
    }
  }

  @Test("directories go both ways with what is in them; links to nothing are skipped aloud")
  func directories() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    try await Invocation.inDirectory { directory in
      try FileManager.default.createDirectory(atPath: "\(directory)/d/e", withIntermediateDirectories: true)
      try write([1, 2], "\(directory)/d/f")
      try write([], "\(directory)/d/e/empty")
      symlink("f", "\(directory)/d/link")
      symlink("nowhere", "\(directory)/d/dangling")
      let up = try await Invocation.run(["cp", "\(directory)/d", "\(id):/d"], on: server)
      #expect(up.code == 0 && up.errors.contains("dangling"))
      #expect(server.state.withLock { $0.files["/d/link"]?.bytes == [1, 2] && $0.files["/d/e/empty"]?.bytes == [] })
      let down = try await Invocation.run(["cp", "\(id):/d", "\(directory)/copy"], on: server)
      #expect(down.code == 0)
      #expect(FileManager.default.contents(atPath: "\(directory)/copy/f") == Data([1, 2]))
      #expect(FileManager.default.contents(atPath: "\(directory)/copy/e/empty") == Data())
    }
  }

  @Test("standard streams can be copied to and from files")
  func streams() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    #expect(try await Invocation.run(["cp", "-", "\(id):/f"], input: Self.content, on: server).code == 0)
    let outcome = try await Invocation.run(["cp", "\(id):/f", "-"], on: server)
    #expect(outcome.output == Self.content)
  }

  @Test("what cannot be copied whole is an error, not less: a name that is no text, an input that cannot be read")
  func nothingLeftOut() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    try await Invocation.inDirectory { directory in
      let strange: [CChar] = "\(directory)/caf".utf8.map { CChar(bitPattern: $0) } + [CChar(bitPattern: 0xe9), 0]
      close(open(strange, O_WRONLY | O_CREAT, 0o600))
      let outcome = try await Invocation.run(["cp", directory, "\(id):/d"], on: server)
      #expect(outcome.code != 0 && outcome.errors.contains("not UTF-8"))
      let input = try InputReader(open(directory, O_RDONLY | O_CLOEXEC))
      await #expect(throws: OperatingSystemError.self) { try await input.read(maximumBytes: 10) }
      await input.close()
    }
  }

  @Test("a file with a name of the maximum length is copied")
  func longName() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    let name = String(repeating: "n", count: 255)
    server.state.withLock { $0.files["/\(name)"] = .init(bytes: [1, 2], mode: 0o644) }
    try await Invocation.inDirectory { directory async throws -> Void in
      #expect(try await Invocation.run(["cp", "\(id):/\(name)", directory], on: server).code == 0)
      #expect(try Data(contentsOf: URL(filePath: "\(directory)/\(name)")) == Data([1, 2]))
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == [name])
    }
  }

  @Test("a broken download leaves no file")
  func truncated() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    server.state.withLock {
      $0.files["/f"] = .init(bytes: Self.content)
      $0.truncatesDownloadsAfter = 1000
    }
    try await Invocation.inDirectory { directory in
      let outcome = try await Invocation.run(["cp", "\(id):/f", "\(directory)/f"], on: server)
      #expect(outcome.code == 74)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
    }
  }

  @Test("the name is what the user typed and the mode goes through the umask, whatever the guest says")
  func hostileNameAndMode() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    server.state.withLock {
      // The guest resolves the path to another file of a mode of its choice.
      $0.files["/.profile"] = .init(bytes: [1, 2], mode: 0o6777)
      $0.resolvedPaths["/report"] = "/.profile"
    }
    let previous = umask(0o027)
    defer { umask(previous) }
    try await Invocation.inDirectory { directory in
      #expect(try await Invocation.run(["cp", "\(id):/report", directory], on: server).code == 0)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["report"])
      let status = try await LocalFile.status("\(directory)/report", followingLinks: false)
      #expect(status?.kind == .file && status?.mode == 0o750)
    }
  }

  @Test("a link that exists is neither followed nor replaced, in a single copy and in a tree")
  func existingLinks() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    server.state.withLock {
      $0.files["/f"] = .init(bytes: [9])
      $0.files["/d"] = .init(bytes: nil)
      $0.files["/d/f"] = .init(bytes: [9])
      $0.files["/d/e"] = .init(bytes: nil)
      $0.files["/d/e/g"] = .init(bytes: [9])
    }
    try await Invocation.inDirectory { directory in
      try write([1], "\(directory)/victim")
      try FileManager.default.createDirectory(atPath: "\(directory)/outside", withIntermediateDirectories: true)
      symlink("victim", "\(directory)/f")
      for target in [directory, "\(directory)/f"] {
        let outcome = try await Invocation.run(["cp", "\(id):/f", target], on: server)
        #expect(outcome.code == 74 && outcome.errors.contains("is a link"), "\(outcome.errors)")
      }
      try FileManager.default.createDirectory(atPath: "\(directory)/d", withIntermediateDirectories: true)
      symlink("../victim", "\(directory)/d/f")
      #expect(try await Invocation.run(["cp", "\(id):/d", directory], on: server).code == 74)
      unlink("\(directory)/d/f")
      try FileManager.default.removeItem(atPath: "\(directory)/d/e")
      symlink("../outside", "\(directory)/d/e")
      #expect(try await Invocation.run(["cp", "\(id):/d", directory], on: server).code == 74)
      #expect(try Data(contentsOf: URL(filePath: "\(directory)/victim")) == Data([1]))
      #expect(try FileManager.default.contentsOfDirectory(atPath: "\(directory)/outside").isEmpty)
      for link in ["f", "d/e"] {
        #expect(try await LocalFile.status("\(directory)/\(link)", followingLinks: false)?.kind == .link)
      }
    }
  }

  @Test("names with control characters or bidirectional marks are not copied, and the copy says so and fails")
  func invisibleNames() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    server.state.withLock {
      $0.files["/d"] = .init(bytes: nil)
      for name in ["good", "c1\u{9B}2J", "bidi\u{202E}gpj.exe", "line\nbreak"] {
        $0.files["/d/\(name)"] = .init(bytes: [1])
      }
    }
    try await Invocation.inDirectory { directory in
      let outcome = try await Invocation.run(["cp", "\(id):/d", "\(directory)/d"], on: server)
      #expect(outcome.code == 74)
      #expect(try FileManager.default.contentsOfDirectory(atPath: "\(directory)/d") == ["good"])
      #expect(outcome.errors.contains("skipped") && outcome.errors.contains("3 entries"))
      #expect(outcome.errors.unicodeScalars.allSatisfy { $0.isVisible || $0 == "\n" })
    }
  }

  @Test("a missing file is an error on either side")
  func missing() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    #expect(try await Invocation.run(["cp", "\(id):/nope", "-"], on: server).code == 66)
    let outcome = try await Invocation.run(["cp", "/does/not/exist", "\(id):/x"], on: server)
    #expect(outcome.code == 74 && outcome.errors.contains("/does/not/exist"))
  }
}
