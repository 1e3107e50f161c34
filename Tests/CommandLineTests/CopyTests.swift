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

  @Test("a missing file is an error on either side")
  func missing() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    #expect(try await Invocation.run(["cp", "\(id):/nope", "-"], on: server).code == 66)
    let outcome = try await Invocation.run(["cp", "/does/not/exist", "\(id):/x"], on: server)
    #expect(outcome.code == 74 && outcome.errors.contains("/does/not/exist"))
  }
}
