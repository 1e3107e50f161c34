/// The files of a generation (docs/formats.md).
package enum SnapshotFile: String, Sendable, CaseIterable {
  case manifest = "manifest.json"
  case memoryHeader = "memory.header"
  case memoryLayer = "memory.layer"
  case deviceState = "device.state"
  case diskLayer = "disk.layer"
  /// A cache: may be missing, is replaced as a whole, and is not listed in the manifest.
  case workingSet = "working.set"

  /// The files that every generation has besides its manifest.
  static let content: [SnapshotFile] = [.memoryHeader, .memoryLayer, .deviceState, .diskLayer]
  /// The files whose SHA-256 is in the manifest. Pages of a memory layer have checksums of their own, and the checksum
  /// of their table is in `memory.header`.
  static let digested: [SnapshotFile] = [.memoryHeader, .deviceState, .diskLayer]
}
