import CLinux
import Concurrency
import Glibc
import LinuxSystem
import SystemPackage

/// A user account of the guest, as in /etc/passwd and /etc/group.
package struct GuestUser: Sendable, Equatable {
  package let name: String
  package let uid: UInt32
  package let gid: UInt32
  /// Groups for setgroups(2): the primary group first, then the groups that list the user as a member.
  package let groups: [UInt32]
  /// Home directory; `/` if the entry has none.
  package let home: String
  /// Login shell; `/bin/sh` if the entry has none (passwd(5)).
  package let shell: String

  package init(name: String, uid: UInt32, gid: UInt32, groups: [UInt32], home: String, shell: String) {
    self.name = name
    self.uid = uid
    self.gid = gid
    self.groups = groups
    self.home = home
    self.shell = shell
  }
}

/// Why a user could not be looked up. Clients see the description.
package enum UserLookupError: Error, Sendable, Equatable, CustomStringConvertible {
  case unknownUser(String)
  /// The account files cannot be read. The value is a system error's text.
  case unreadable(String)

  package var description: String {
    switch self {
    case .unknownUser(let name): "invalid username: '\(name)'"
    case .unreadable(let reason): "the guest's user database cannot be read: \(reason)"
    }
  }
}

/// The guest's user accounts, read from the files: a static executable has no name service switch (getpwnam(3)).
///
/// The parsed files are cached until one of them changes (device, inode, size, or modification time). A missing group
/// file is treated as empty. With a missing passwd file `root` exists, so that an image without accounts is usable.
package final class UserDatabase: Sendable {
  private let passwd: String
  private let group: String
  private let cache: Mutex<(stamps: [FileStamp?], files: AccountFiles)?> = Mutex(nil)

  package init(passwd: String = "/etc/passwd", group: String = "/etc/group") {
    self.passwd = passwd
    self.group = group
  }

  /// The account with this exact name. User ids are not accepted.
  /// - Throws: `unknownUser`, or `unreadable` when a file exists and cannot be read.
  package func user(named name: String) throws(UserLookupError) -> GuestUser {
    guard let user = try load().users[name] else { throw .unknownUser(name) }
    return user
  }

  /// nil when no account has this number or the files cannot be read.
  package func name(ofUID uid: UInt32) -> String? {
    (try? load())?.userNames[uid]
  }

  /// nil when no group has this number or the files cannot be read.
  package func name(ofGID gid: UInt32) -> String? {
    (try? load())?.groupNames[gid]
  }

  private func load() throws(UserLookupError) -> AccountFiles {
    try cache.withLock { (cache) throws(UserLookupError) in
      let stamps = [FileStamp(path: passwd), FileStamp(path: group)]
      if let cache, cache.stamps == stamps { return cache.files }
      let files = AccountFiles(
        passwd: try Self.read(passwd, ifMissing: "root:x:0:0:root:/root:/bin/sh"),
        group: try Self.read(group, ifMissing: ""))
      // The stamps were taken before reading, so the next call notices a change in between.
      cache = (stamps, files)
      return files
    }
  }

  private static func read(_ path: String, ifMissing fallback: String) throws(UserLookupError) -> String {
    do {
      return try SmallFile.readText(path)
    } catch {
      guard error.errno.rawValue == ENOENT else { throw .unreadable("\(error)") }
      return fallback
    }
  }
}

/// Distinguishes versions of a file.
private struct FileStamp: Equatable {
  let device: UInt64
  let inode: UInt64
  let size: Int64
  let seconds: Int64
  let nanoseconds: Int64

  init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
    size = Int64(status.st_size)
    seconds = Int64(status.st_mtim.tv_sec)
    nanoseconds = Int64(status.st_mtim.tv_nsec)
  }
}

/// The parsed content of /etc/passwd and /etc/group.
///
/// Malformed lines, comments and NIS lines (`+…`) are skipped, like the C library does. The first one of several
/// entries with the same name or number counts.
///
/// Source: passwd(5), group(5)
struct AccountFiles: Sendable {
  private(set) var users: [String: GuestUser] = [:]
  private(set) var userNames: [UInt32: String] = [:]
  private(set) var groupNames: [UInt32: String] = [:]

  init(passwd: String, group: String) {
    let memberships = readGroups(group)
    for line in passwd.split(separator: "\n") {
      guard let user = Self.parseUser(line, memberships: memberships) else { continue }
      if users[user.name] == nil { users[user.name] = user }
      if userNames[user.uid] == nil { userNames[user.uid] = user.name }
    }
  }

  /// Fills `groupNames`. Returns, for each user name, the numbers of the groups that list it as a member.
  private mutating func readGroups(_ text: String) -> [String: [UInt32]] {
    var memberships: [String: [UInt32]] = [:]
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: ":", omittingEmptySubsequences: false)
      guard fields.count == 4, Self.isName(fields[0]), let gid = UInt32(fields[2]) else { continue }
      if groupNames[gid] == nil { groupNames[gid] = String(fields[0]) }
      for member in fields[3].split(separator: ",") {
        memberships[String(member), default: []].append(gid)
      }
    }
    return memberships
  }

  private static func parseUser(_ line: Substring, memberships: [String: [UInt32]]) -> GuestUser? {
    let fields = line.split(separator: ":", omittingEmptySubsequences: false)
    guard fields.count == 7, isName(fields[0]), let uid = UInt32(fields[2]), let gid = UInt32(fields[3]) else {
      return nil
    }
    let name = String(fields[0])
    var groups = [gid]
    for group in memberships[name, default: []] where !groups.contains(group) { groups.append(group) }
    return GuestUser(
      name: name, uid: uid, gid: gid, groups: groups,
      home: fields[5].isEmpty ? "/" : String(fields[5]), shell: fields[6].isEmpty ? "/bin/sh" : String(fields[6]))
  }

  private static func isName(_ field: Substring) -> Bool {
    guard let first = field.utf8.first else { return false }
    return first != UInt8(ascii: "#") && first != UInt8(ascii: "+") && first != UInt8(ascii: "-")
  }
}
