import CLinux
import Glibc
import LinuxSystem
import SystemPackage

/// A directory below /tmp that is removed with its content when its last reference is released.
final class TemporaryDirectory: Sendable {
  let root: String

  init() throws {
    var template = Array("/tmp/martlet-envd-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SystemError.current("mkdtemp") }
    root = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    // Other users access the files in it, like in a guest.
    chmod(root, 0o755)
  }

  deinit {
    try? Directories.removeTree(FilePath(root))
  }

  func path(_ name: String) -> String { root + "/" + name }

  func write(_ text: String, to name: String) throws {
    try write(Array(text.utf8), to: name)
  }

  func write(_ content: [UInt8], to name: String) throws {
    let descriptor = try OwnedDescriptor.open(path(name), O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
    var rest = content[...]
    while !rest.isEmpty {
      rest = rest.dropFirst(
        try SystemError.check("write") {
          rest.withUnsafeBytes { Glibc.write(descriptor.rawValue, $0.baseAddress, $0.count) }
        })
    }
  }

  func read(_ name: String) throws -> [UInt8] {
    try SmallFile.read(path(name))
  }

  func makeDirectory(_ name: String) throws {
    try Directories.create(FilePath(path(name)))
  }

  func status(_ name: String) throws -> stat {
    var status = stat()
    guard lstat(path(name), &status) == 0 else { throw SystemError.current("lstat", subject: name) }
    return status
  }
}
