import Foundation
import Glibc
import LinuxSystem
import SystemPackage
import Testing

@testable import Images

@Suite("Root tree")
final class RootTreeTests {
  private let place: FilePath
  private let tree: RootTree

  init() throws {
    place = FilePath("/tmp/martlet-tree-\(UUID().uuidString.lowercased())")
    tree = RootTree(root: place.appending("root"))
    try Directories.create(tree.root)
    try Directories.create(place.appending("outside"))
  }

  deinit {
    try? Directories.removeTree(place)
  }

  private func link(_ target: String, at path: String) {
    symlink(target, tree.root.string + path)
  }

  @Test("links are followed as the guest would follow them, and never lead out of the tree")
  func resolve() throws {
    link("/", at: "/top")
    link("../../../../../..", at: "/up")
    link("usr/lib", at: "/lib")
    try Directories.create(tree.root.appending("usr/lib"))
    let root = tree.root.string
    #expect(try tree.resolve("/top/etc").string == root + "/etc")
    #expect(try tree.resolve("/up/etc/../a").string == root + "/a")
    #expect(try tree.resolve("/lib/modules").string == root + "/usr/lib/modules")
    #expect(try tree.resolve("../../x").string == root + "/x")
    #expect(try tree.resolve("/lib", followsLast: false).string == root + "/lib")
  }

  @Test("a cycle of links is an error")
  func circle() {
    link("b", at: "/a")
    link("a", at: "/b")
    #expect(throws: SystemError.self) { try tree.resolve("/a/x") }
  }

  @Test("a file written through hostile links is inside the tree")
  func write() throws {
    let outside = place.appending("outside")
    link(outside.string, at: "/etc")
    link("\(outside)/passwd", at: "/passwd")
    try tree.write("x", to: "/etc/hosts")
    try tree.write("y", to: "/passwd")
    #expect(try Directories.names(in: outside).isEmpty)
    #expect(try tree.readText("/etc/hosts") == "x")
    #expect(try tree.readText("/passwd") == "y")
  }

  @Test("removing a link removes the link, not its target")
  func remove() throws {
    let outside = place.appending("outside")
    try SmallFile.replace(outside.appending("kept"), with: [1], mode: 0o600)
    link(outside.string, at: "/gone")
    try tree.remove("/gone")
    try tree.remove("/gone")
    link(outside.string, at: "/dir")
    try tree.empty("/dir")
    #expect(try Directories.names(in: outside) == ["kept"])
  }

  @Test("a tree with a shell, or any executable, counts as a root file system")
  func executables() throws {
    #expect(try !tree.hasExecutables())
    try tree.write("", to: "/usr/bin/thing", permissions: 0o644)
    #expect(try !tree.hasExecutables())
    link("usr/bin", at: "/bin")
    try tree.write("", to: "/bin/thing", permissions: 0o755)
    #expect(try tree.hasExecutables())
  }

  @Test("missing accounts are added, existing ones are not changed")
  func accounts() {
    var accounts = Accounts(passwd: "root:x:0:0:root:/root:/bin/zsh", group: "")
    accounts.ensure(name: "root", id: 0, home: "/root", shell: "/bin/sh")
    accounts.ensure(name: "user", id: 1_000, home: "/home/user", shell: "/bin/sh")
    #expect(accounts.passwd == "root:x:0:0:root:/root:/bin/zsh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")
    #expect(accounts.group == "root:x:0:\nuser:x:1000:\n")
    #expect(accounts.home(of: "user") == "/home/user")
    #expect(Accounts(passwd: "user:x:1:1", group: "").home(of: "user") == nil)
    #expect(Accounts(passwd: "user:x:1:1:::", group: "").home(of: "user") == nil)
  }

  @Test("with shadow passwords new accounts get an entry, and the file keeps its permissions")
  func shadow() throws {
    try tree.write("root:*:1::::::", to: "/etc/shadow", permissions: 0o640)
    try tree.ensureAccounts(addingUser: true, shell: "/bin/sh")
    try tree.ensureAccounts(addingUser: true, shell: "/bin/sh")
    #expect(try tree.readText("/etc/shadow") == "root:*:1::::::\nuser:*:19700:0:99999:7:::\n")
    var status = stat()
    #expect(lstat(try tree.resolve("/etc/shadow").string, &status) == 0)
    #expect(status.st_mode & 0o777 == 0o640)
  }

  @Test("a file system is large enough for many small files, and never smaller than the minimum")
  func sizes() {
    #expect(FileSystemImage.sizeBytes(for: .init(blocks: 0, inodes: 0)) == FileSystemImage.minimumBytes)
    let many = FileSystemImage.sizeBytes(for: .init(blocks: 100_000, inodes: 100_000))
    #expect(many / FileSystemImage.bytesPerInode > 100_000)
    #expect(many % 4_096 == 0)
  }
}
