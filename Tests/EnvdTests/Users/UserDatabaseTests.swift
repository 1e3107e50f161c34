import Glibc
import Testing

@testable import Envd

@Suite("user database")
struct UserDatabaseTests {
  private static let passwd = """
    root:x:0:0:root:/root:/bin/bash
    # comment:x:1:1::/:/bin/sh
    +nis
    broken:x:12
    user:x:1000:1000:,,,:/home/user:/bin/bash
    bare:x:1001:100:::
    user:x:2000:2000::/elsewhere:/bin/false
    big:x:4294967296:0::/:/bin/sh
    """
  private static let group = """
    root:x:0:
    sudo:x:27:user,other
    docker:x:999:other,user
    user:x:1000:user
    users:x:100:
    """

  @Test("a user has its primary group first and every group that lists it, once")
  func supplementaryGroups() throws {
    try withDatabase { database in
      let user = try database.user(named: "user")
      #expect(
        user
          == GuestUser(
            name: "user", uid: 1000, gid: 1000, groups: [1000, 27, 999], home: "/home/user", shell: "/bin/bash"))
    }
  }

  @Test("empty home and shell fields get the defaults of passwd(5)")
  func defaults() throws {
    try withDatabase { database in
      let user = try database.user(named: "bare")
      #expect(user.home == "/")
      #expect(user.shell == "/bin/sh")
    }
  }

  @Test(
    "malformed lines, comments, NIS lines and numbers beyond 32 bits are not users",
    arguments: ["broken", "# comment", "+nis", "big", "1000", ""])
  func malformed(name: String) throws {
    try withDatabase { database in
      #expect(throws: UserLookupError.unknownUser(name)) { try database.user(named: name) }
    }
  }

  @Test("numbers have the name of their first entry; unknown numbers have none")
  func names() throws {
    try withDatabase { database in
      #expect(database.name(ofUID: 1000) == "user")
      #expect(database.name(ofGID: 27) == "sudo")
      #expect(database.name(ofUID: 77) == nil)
      #expect(database.name(ofGID: 77) == nil)
    }
  }

  @Test("a changed file is read again")
  func reload() throws {
    try withDatabase { database, directory in
      #expect(throws: UserLookupError.self) { try database.user(named: "late") }
      try directory.write("late:x:7:7::/late:/bin/sh\n", to: "passwd")
      #expect(try database.user(named: "late").uid == 7)
    }
  }

  @Test("without account files root exists")
  func missingFiles() throws {
    let database = UserDatabase(passwd: "/nonexistent/passwd", group: "/nonexistent/group")
    #expect(try database.user(named: "root").home == "/root")
  }

  @Test("a passwd path that is not a file is reported as unreadable")
  func unreadable() {
    let database = UserDatabase(passwd: "/proc", group: "/nonexistent")
    #expect {
      try database.user(named: "root")
    } throws: { error in
      guard case UserLookupError.unreadable = error else { return false }
      return true
    }
  }

  private func withDatabase(_ body: (UserDatabase, TemporaryDirectory) throws -> Void) throws {
    let directory = try TemporaryDirectory()
    try directory.write(Self.passwd, to: "passwd")
    try directory.write(Self.group, to: "group")
    try body(UserDatabase(passwd: directory.path("passwd"), group: directory.path("group")), directory)
  }

  private func withDatabase(_ body: (UserDatabase) throws -> Void) throws {
    try withDatabase { database, _ in try body(database) }
  }
}
