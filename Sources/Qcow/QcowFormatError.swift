package import LinuxSystem

/// Why a qcow2 file is not one that this module reads.
package enum QcowFormatError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A field of the header has a value that none of our files has; the associated value names it.
  case header(String)
  /// A header extension that is not on the list of known ones, or is not where it can be.
  case headerExtension(UInt32)
  /// The header names a file.
  case namesFile
  /// The guest's disk has another size than the caller expects.
  case diskSize(Int64)
  /// The file is longer than a disk of its size can need, or shorter than its header says.
  case fileSize(Int64)
  /// An entry of an L1 or L2 table is malformed, points outside the file, or at a cluster that is in use already.
  case entry(String)

  package var description: String {
    switch self {
    case .header(let field): "the disk's header has an invalid \(field)"
    case .headerExtension(let type):
      "the disk's header has an extension that is not allowed, 0x\(String(type, radix: 16))"
    case .namesFile: "the disk's header names a file"
    case .diskSize(let size): "the disk's header says that the disk has \(size) bytes, which it has not"
    case .fileSize(let size): "the disk's file cannot be \(size) bytes long"
    case .entry(let problem): "the disk's cluster tables have an invalid entry: \(problem)"
    }
  }
}

/// Why a layer could not be read or written.
package enum QcowError: Error, Sendable {
  case format(QcowFormatError)
  case system(SystemError)
}
