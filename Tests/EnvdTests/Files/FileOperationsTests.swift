import CLinux
import Glibc
import LinuxSystem
import Protos
import SwiftProtobuf
import SystemPackage
import Testing

@testable import Envd

/// Runs as root, in a temporary directory.
@Suite("file operations")
struct FileOperationsTests {
  private let directory: TemporaryDirectory
  private let operations: FileOperations

  init() throws {
    directory = try TemporaryDirectory()
    let user = GuestUser(name: "user", uid: 1234, gid: 1235, groups: [1235], home: directory.root, shell: "/bin/sh")
    operations = FileOperations(
      users: UserDatabase(passwd: directory.path("none"), group: directory.path("none")), user: user)
  }

  @Test("an entry has name, size, mode and owner of its file; unknown owners are numbers")
  func entry() throws {
    try directory.write("12345", to: "f")
    chown(directory.path("f"), 77, 78)
    let entry = try operations.entry(directory.path("f"))
    #expect(entry.name == "f" && entry.path == directory.path("f") && entry.size == 5 && entry.type == .file)
    #expect(entry.mode == 0o644 && entry.permissions == "-rw-r--r--" && entry.owner == "77" && entry.group == "78")
    #expect(entry.modifiedTime.seconds > 1_600_000_000 && !entry.hasSymlinkTarget)
  }

  @Test("a link has the type of its target; a broken link has none")
  func links() throws {
    try directory.makeDirectory("d")
    symlink("d", directory.path("good"))
    symlink("nowhere", directory.path("bad"))
    let good = try operations.entry(directory.path("good"))
    #expect(
      good.type == .directory && good.symlinkTarget == directory.path("d") && good.permissions == "Lrwxrwxrwx"
        && good.mode == 0o755)
    #expect(try operations.entry(directory.path("bad")).type == .unspecified)
  }

  @Test("extended attributes set by other programs are reported as metadata")
  func metadata() throws {
    try directory.write("", to: "f")
    guard setxattr(directory.path("f"), "user.e2b.k", "v", 1, 0) == 0 else { return }
    #expect(try operations.entry(directory.path("f")).metadata == ["k": "v"])
  }

  @Test("a listing is depth first and sorted, and does not follow links below its root")
  func list() throws {
    for name in ["b", "a/x/deep", "B", "ä/b"] { try directory.makeDirectory(name) }
    try directory.write("", to: "a/file")
    symlink("/", directory.path("a/link"))
    let names = try operations.list(directory.root, depth: 9).map { $0.path.dropFirst(directory.root.count + 1) }
    #expect(names == ["B", "a", "a/file", "a/link", "a/x", "a/x/deep", "b", "ä", "ä/b"])
    #expect(try operations.list(directory.root, depth: 0).count == 4)
    symlink(directory.path("a"), directory.path("root"))
    #expect(
      try operations.list(directory.path("root"), depth: 1).map(\.path)
        == ["file", "link", "x"].map { directory.path("root/" + $0) })
  }

  @Test("each failure has its reason")
  func failures() throws {
    try directory.write("", to: "f")
    try directory.makeDirectory("full/x")
    #expect(reason { try operations.entry(directory.path("none")) } == .notFound)
    #expect(reason { try operations.list(directory.path("none"), depth: 1) } == .notFound)
    #expect(reason { try operations.list(directory.path("f"), depth: 1) } == .invalidArgument)
    #expect(reason { try operations.makeDirectory(directory.path("f")) } == .invalidArgument)
    #expect(reason { try operations.makeDirectory(directory.path("f/x")) } == .invalidArgument)
    #expect(reason { try operations.makeDirectory(directory.path("full")) } == .alreadyExists)
    #expect(reason { try operations.move(from: directory.path("none"), to: directory.path("new/x")) } == .notFound)
    #expect(access(directory.path("new"), F_OK) != 0)
    #expect(
      reason { try operations.move(from: directory.path("full/x"), to: directory.path("full")) } == .failedPrecondition)
    #expect(reason { try operations.remove("/") } == .invalidArgument)
  }

  @Test("new directories belong to the user; existing ones keep their owner")
  func makeDirectory() throws {
    try directory.makeDirectory("old")
    _ = try operations.makeDirectory(directory.path("old/new/deep"))
    #expect(try directory.status("old").st_uid == 0)
    #expect(try directory.status("old/new").st_uid == 1234)
    #expect(try directory.status("old/new/deep").st_gid == 1235)
  }

  @Test("remove deletes deep trees, deletes links but not their targets, and accepts a missing path")
  func remove() throws {
    try directory.makeDirectory("keep/me")
    try directory.makeDirectory("tree/" + Array(repeating: "d", count: 300).joined(separator: "/"))
    for number in 0..<50 { try directory.write("x", to: "tree/d/\(number)") }
    symlink(directory.path("keep"), directory.path("tree/link"))
    symlink(directory.path("keep"), directory.path("toplink"))
    try directory.makeDirectory("tree/\u{301}combining/\u{301}x")
    for name in ["tree", "toplink", "tree", "none/at/all"] { try operations.remove(directory.path(name)) }
    #expect(try Directories.names(in: .init(directory.root)) == ["keep"])
    #expect(access(directory.path("keep/me"), F_OK) == 0)
  }

  private func reason(_ body: () throws -> Any) -> FileFailure.Reason? {
    do {
      _ = try body()
      return nil
    } catch {
      return (error as? FileFailure)?.reason
    }
  }
}
