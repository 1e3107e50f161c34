import CLinux
import Concurrency
import Glibc
import LinuxSystem
import SystemPackage

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
