import Glibc
package import SystemPackage

/// Reads and writes small whole files: kernel interfaces (/proc, /sys) and state files. Not for large files.
package enum SmallFile {
  package static let maximumBytes = 4_194_304

  /// Reads a whole file of at most `maximumBytes`.
  package static func read(_ path: String) throws(SystemError) -> [UInt8] {
    let descriptor = try OwnedDescriptor.open(path, O_RDONLY)
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = try SystemError.check("read", path) { Glibc.read(descriptor.rawValue, &buffer, buffer.count) }
      if count == 0 { return content }
      content.append(contentsOf: buffer[0..<count])
      guard content.count <= maximumBytes else { throw SystemError("read", .fileTooLarge, subject: path) }
    }
  }

  package static func readText(_ path: String) throws(SystemError) -> String {
    String(decoding: try read(path), as: UTF8.self)
  }

  /// Writes to an existing file with one write(2), as kernel interfaces require.
  package static func write(_ text: String, to path: String) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(path, O_WRONLY)
    try writeAll(Array(text.utf8), to: descriptor, path: path)
  }

  /// Ending of the temporary files of `replace`: `NAME.<16 hexadecimal digits>.new`.
  static let temporarySuffix = ".new"

  /// Replaces a file atomically and durably: temporary file, fsync, rename, fsync of the directory.
  ///
  /// Each call has a temporary file of its own, so that of several writers at the same time one wins and the file is
  /// always whole. The writer holds a lock on its temporary file (flock(2)); one without a lock was left by a writer
  /// that died, and the next call for the same name removes it.
  package static func replace(_ path: FilePath, with content: [UInt8], mode: UInt32) throws(SystemError) {
    try removeLeftovers(of: path)
    let (temporary, descriptor) = try makeTemporary(for: path, mode: mode)
    do {
      try writeAll(content, to: descriptor, path: temporary)
      try SystemError.check("fchmod", temporary) { fchmod(descriptor.rawValue, mode) }
      try SystemError.check("fsync", temporary) { fsync(descriptor.rawValue) }
      try SystemError.check("rename", path.string) { rename(temporary, path.string) }
    } catch {
      unlink(temporary)
      throw error
    }
    try synchronizeDirectory(path.removingLastComponent())
  }

  /// A new, locked file beside `path`.
  private static func makeTemporary(
    for path: FilePath, mode: UInt32
  ) throws(SystemError) -> (path: String, descriptor: OwnedDescriptor) {
    while true {
      let digits = String(UInt64.random(in: .min ... .max), radix: 16)
      let name = "\(path.string).\(String(repeating: "0", count: 16 - digits.count))\(digits)\(temporarySuffix)"
      let descriptor = try OwnedDescriptor.open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
      try SystemError.check("flock", name) { flock(descriptor.rawValue, LOCK_EX) }
      // Another call may have taken the file for a leftover before it was locked.
      if try FileStatus.of(name, followingLinks: false) != nil { return (name, descriptor) }
    }
  }

  /// Removes temporary files of writers that died.
  private static func removeLeftovers(of path: FilePath) throws(SystemError) {
    guard let base = path.lastComponent?.string else { return }
    let directory = path.removingLastComponent()
    for name in try Directories.names(in: directory.isEmpty ? "." : directory)
    where isTemporary(name, of: base) {
      let leftover = directory.appending(name).string
      // One that cannot be opened or locked belongs to a living writer, or is gone already.
      guard let descriptor = try? OwnedDescriptor.open(leftover, O_WRONLY | O_NOFOLLOW | O_NONBLOCK),
        flock(descriptor.rawValue, LOCK_EX | LOCK_NB) == 0
      else { continue }
      unlink(leftover)
    }
  }

  private static func isTemporary(_ name: String, of base: String) -> Bool {
    guard name.hasPrefix("\(base)."), name.hasSuffix(temporarySuffix) else { return false }
    let digits = name.dropFirst(base.count + 1).dropLast(temporarySuffix.count)
    return digits.utf8.count == 16 && digits.allSatisfy(\.isHexDigit)
  }

  /// Makes an empty file that only its owner can open, for a library that would make it with other modes; one that
  /// exists is closed to others, and not opened: closing it would end the process's locks on it (fcntl(2)).
  package static func reservePrivate(_ path: String) throws(SystemError) {
    do {
      _ = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
    } catch {
      guard error.errno == .fileExists else { throw error }
    }
    try SystemError.check("chmod", path) { chmod(path, 0o600) }
  }

  package static func synchronizeDirectory(_ path: FilePath) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(path.isEmpty ? "." : path.string, O_RDONLY | O_DIRECTORY)
    try SystemError.check("fsync", path.string) { fsync(descriptor.rawValue) }
  }

  private static func writeAll(_ content: [UInt8], to descriptor: OwnedDescriptor, path: String) throws(SystemError) {
    var offset = 0
    while offset < content.count {
      offset += try SystemError.check("write", path) {
        content.withUnsafeBytes {
          Glibc.write(descriptor.rawValue, $0.baseAddress.map { $0 + offset }, content.count - offset)
        }
      }
    }
  }
}

package enum Directories {
  /// Creates a directory and its parents; an existing directory is success.
  package static func create(_ path: FilePath, mode: UInt32 = 0o755) throws(SystemError) {
    if mkdir(path.string, mode) == 0 || Glibc.errno == EEXIST { return }
    guard Glibc.errno == ENOENT, !path.removingLastComponent().isEmpty, path.removingLastComponent() != path else {
      throw SystemError.current("mkdir", subject: path.string)
    }
    try create(path.removingLastComponent(), mode: mode)
    guard mkdir(path.string, mode) == 0 || Glibc.errno == EEXIST else {
      throw SystemError.current("mkdir", subject: path.string)
    }
  }

  /// Creates a directory that only its owner reaches, and its parents; one that exists is closed to others.
  package static func createPrivate(_ path: FilePath) throws(SystemError) {
    try create(path, mode: 0o700)
    try SystemError.check("chmod", path.string) { chmod(path.string, 0o700) }
  }

  /// Names in a directory, without `.` and `..`; empty when it does not exist.
  package static func names(in path: FilePath) throws(SystemError) -> [String] {
    guard let stream = opendir(path.string) else {
      if Glibc.errno == ENOENT { return [] }
      throw SystemError.current("opendir", subject: path.string)
    }
    defer { closedir(stream) }
    var names: [String] = []
    Glibc.errno = 0
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
      Glibc.errno = 0
    }
    // readdir(3) returns NULL at the end and for an error, which only errno tells apart.
    guard Glibc.errno == 0 else { throw SystemError.current("readdir", subject: path.string) }
    return names
  }

  /// Removes a directory and everything below it, never following symbolic links. An absent directory is success.
  package static func removeTree(_ path: FilePath) throws(SystemError) {
    var status = stat()
    guard lstat(path.string, &status) == 0 else {
      if Glibc.errno == ENOENT { return }
      throw SystemError.current("lstat", subject: path.string)
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      return try removeEntry(path.string)
    }
    for name in try names(in: path) {
      try removeTree(path.appending(name))
    }
    guard rmdir(path.string) == 0 || Glibc.errno == ENOENT else {
      throw SystemError.current("rmdir", subject: path.string)
    }
  }

  private static func removeEntry(_ path: String) throws(SystemError) {
    guard unlink(path) == 0 || Glibc.errno == ENOENT else { throw SystemError.current("unlink", subject: path) }
  }
}
