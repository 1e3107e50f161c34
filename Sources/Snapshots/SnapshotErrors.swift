import LinuxSystem
package import Model
import SystemPackage

/// The reason why a file of the store does not have a valid format.
package enum SnapshotFormatError: Error, Sendable, Equatable {
  /// The file's size differs from the size that its header implies.
  case wrongSize
  case wrongMagic
  case wrongChecksum
  /// Written by a newer version; the checksum is right.
  case unsupportedVersion(UInt32)
  /// A field has a value that it cannot have.
  case invalid(String)
  /// More generations than one header can refer to; the chain should have been compacted earlier.
  case tooManyGenerations(Int)

  /// Completes the sentence "its memory.header …".
  var complaint: String {
    switch self {
    case .wrongSize: "has the wrong size"
    case .wrongMagic: "has a wrong magic number"
    case .wrongChecksum: "has a wrong checksum"
    case .unsupportedVersion(let version): "has format version \(version), which this Martlet does not know"
    case .invalid(let what): "has an invalid \(what)"
    case .tooManyGenerations(let count): "refers to \(count) generations"
    }
  }
}

extension MartletError {
  /// `snapshot_damaged`, naming the generation and the file.
  package static func damaged(
    _ id: GenerationID, _ file: SnapshotFile, _ complaint: String, cause: (any Error)? = nil
  ) -> MartletError {
    MartletError(
      .snapshotDamaged, "snapshot \(id) cannot be used: its \(file.rawValue) \(complaint); use another snapshot",
      cause: cause)
  }

  /// Maps a format error to `snapshot_damaged`, or to `snapshot_incompatible` for files of a newer Martlet.
  static func unusable(_ id: GenerationID, _ file: SnapshotFile, _ error: SnapshotFormatError) -> MartletError {
    guard case .unsupportedVersion = error else { return damaged(id, file, error.complaint, cause: error) }
    return MartletError(
      .snapshotIncompatible, "snapshot \(id) cannot be used: its \(file.rawValue) \(error.complaint)", cause: error)
  }

  /// Maps an error on reading a file of a snapshot. Lack of descriptors or memory does not count as damage.
  static func unreadable(_ id: GenerationID, _ file: SnapshotFile, _ error: SystemError) -> MartletError {
    switch error.errno {
    case .noSuchFileOrDirectory, .notDirectory: damaged(id, file, "is missing", cause: error)
    case .tooManySymbolicLinkLevels, .isDirectory: damaged(id, file, "is not a file", cause: error)
    case .fileTooLarge: damaged(id, file, SnapshotFormatError.wrongSize.complaint, cause: error)
    case .ioError: damaged(id, file, "cannot be read from the disk", cause: error)
    default: storageFailure("the \(file.rawValue) of snapshot \(id) could not be read", error)
    }
  }

  /// Maps a failed system call to `insufficient_storage` or `internal`. `action` is a sentence such as "the snapshot
  /// could not be written".
  static func storageFailure(_ action: String, _ error: SystemError) -> MartletError {
    switch error.errno {
    case .noSpace, .diskQuotaExceeded:
      MartletError(
        .insufficientStorage,
        "\(action): the host's storage is full; delete sandboxes or snapshots, or try again later", cause: error)
    default:
      MartletError(.internalError, action, cause: error)
    }
  }
}

/// Runs `body` and maps its error with `storageFailure`.
@discardableResult
func storing<Value>(_ action: String, _ body: () throws(SystemError) -> Value) throws(MartletError) -> Value {
  do {
    return try body()
  } catch {
    throw MartletError.storageFailure(action, error)
  }
}
