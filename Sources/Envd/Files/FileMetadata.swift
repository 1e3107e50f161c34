import CLinux
import Glibc
import LinuxSystem
import SystemPackage

/// Metadata that a client attaches to a file, stored as extended attributes `user.e2b.<key>`.
///
/// Source: E2B's envd contract; xattr(7)
struct FileMetadata: Sendable, Equatable {
  static let attributePrefix = "user.e2b."
  static let headerPrefix = "x-metadata-"
  /// The kernel allows attribute names of 255 bytes.
  static let maximumKeyBytes = 255 - attributePrefix.utf8.count
  /// For keys, including the prefix, and values together.
  static let maximumTotalBytes = 4_096

  /// By lower-case key without the prefix.
  let values: [String: String]

  init(values: [String: String] = [:]) {
    self.values = values
  }

  /// Collects `X-Metadata-<key>` from header names and values. The last one of equal keys counts.
  /// - Throws: `invalidArgument` for an empty key, characters other than printable ASCII, or too many bytes.
  init(headers: some Sequence<(name: String, value: String)>) throws(FileFailure) {
    var values: [String: String] = [:]
    for (name, value) in headers where name.lowercased().hasPrefix(Self.headerPrefix) {
      values[String(name.lowercased().dropFirst(Self.headerPrefix.count))] = value
    }
    try Self.validate(values)
    self.values = values
  }

  private static func validate(_ values: [String: String]) throws(FileFailure) {
    var total = 0
    for (key, value) in values {
      guard !key.isEmpty, key.utf8.count <= maximumKeyBytes else {
        throw FileFailure(.invalidArgument, "a metadata key must have 1 to \(maximumKeyBytes) bytes")
      }
      guard (key + value).utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
        throw FileFailure(.invalidArgument, "metadata key '\(key)': key and value must be printable ASCII")
      }
      total += attributePrefix.utf8.count + key.utf8.count + value.utf8.count
    }
    guard total <= maximumTotalBytes else {
      throw FileFailure(.invalidArgument, "the metadata is longer than \(maximumTotalBytes) bytes, prefixes included")
    }
  }
}

extension FileMetadata {
  /// Replaces all metadata of the file. Does nothing on file systems without extended attributes.
  func replace(on descriptor: OwnedDescriptor) throws(SystemError) {
    let present = Self.names { flistxattr(descriptor.rawValue, $0, $1) }
    for name in present where values[String(name.dropFirst(Self.attributePrefix.count))] == nil {
      if fremovexattr(descriptor.rawValue, name) != 0, errno != ENODATA, errno != ENOTSUP {
        throw SystemError.current("fremovexattr")
      }
    }
    for (key, value) in values.sorted(by: { $0.key < $1.key }) {
      let status = fsetxattr(descriptor.rawValue, Self.attributePrefix + key, value, value.utf8.count, 0)
      if status != 0 {
        if errno == ENOTSUP { return }
        throw SystemError.current("fsetxattr")
      }
    }
  }

  /// The metadata of a file; follows symbolic links. Empty when it cannot be read.
  static func read(path: String) -> FileMetadata {
    var values: [String: String] = [:]
    for name in names({ listxattr(path, $0, $1) }) {
      var buffer = [UInt8](repeating: 0, count: maximumTotalBytes)
      let count = getxattr(path, name, &buffer, buffer.count)
      guard count >= 0 else { continue }
      values[String(name.dropFirst(attributePrefix.count))] = String(decoding: buffer.prefix(count), as: UTF8.self)
    }
    return FileMetadata(values: values)
  }

  /// Names of the metadata attributes. `list` is listxattr(2) without its first argument.
  private static func names(_ list: (UnsafeMutablePointer<CChar>?, Int) -> Int) -> [String] {
    let size = list(nil, 0)
    guard size > 0 else { return [] }
    var buffer = [CChar](repeating: 0, count: size)
    let count = list(&buffer, size)
    guard count > 0 else { return [] }
    return buffer.prefix(count).split(separator: 0)
      .map { String(decoding: $0.map(UInt8.init(bitPattern:)), as: UTF8.self) }
      .filter { $0.utf8.starts(with: attributePrefix.utf8) && $0.utf8.count > attributePrefix.utf8.count }
  }
}
