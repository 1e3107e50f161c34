import CLinux
import Concurrency
import Glibc
import LinuxSystem
import SystemPackage

/// The guest's accounts, read from the files themselves: a static executable has no name service switch (getpwnam(3)).
///
/// The parsed files are kept until one of them changes (device, inode, size, or modification time). A missing group
/// file is an empty one; a missing passwd file still knows `root`, so that an image without any accounts can be used.
package final class UserDatabase: Sendable {
  private let passwd: String
  private let group: String
  private let cache: Mutex<(stamps: [FileStamp?], files: AccountFiles)?> = Mutex(nil)

  package init(passwd: String = "/etc/passwd", group: String = "/etc/group") {
    self.passwd = passwd
    self.group = group
  }

  /// The account with this exact name; numbers are not names.
  /// - Throws: `unknownUser`, or `unreadable` when a file exists and cannot be read.
  package func user(named name: String) throws(UserLookupError) -> GuestUser {
    guard let user = try load().users[name] else { throw .unknownUser(name) }
    return user
  }

  /// Nil when no account has this number or the files cannot be read.
  package func name(ofUID uid: UInt32) -> String? {
    (try? load())?.userNames[uid]
  }

  /// Nil when no group has this number or the files cannot be read.
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
      // The stamps were taken before reading: a change in between is seen by the next call.
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

/// What tells one version of a file from the next.
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
