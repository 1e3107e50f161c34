import Glibc
import LinuxSystem
import Model
import SystemPackage

/// Checks which files a qcow2 file depends on.
///
/// The VMM writes disks, and a captured VMM could write one whose backing file is any file of the host; `qemu-img`
/// would later read that file as root. Therefore a layer is published only if its backing file is the expected one.
/// Source: QEMU docs/interop/qcow2.txt.
enum DiskLayerHeader {
  private static let magic: [UInt8] = [0x51, 0x46, 0x49, 0xFB]
  private static let bytes = 104
  private static let maximumBackingNameBytes = 1_023
  private static let backingFormatExtension: UInt64 = 0xE279_2ACA
  /// The accepted incompatible features: dirty refcounts and extended L2 entries. Not accepted: corrupt, external data
  /// file.
  private static let allowedFeatures: UInt64 = 1 << 0 | 1 << 4

  /// - Throws: `snapshot_damaged` unless the file at `path` is in `format` and, when that is qcow2, has `backing` as
  ///   its backing file and no external data file.
  static func check(
    _ path: FilePath, id: GenerationID, backing: (path: FilePath, format: String), format: String
  ) throws(MartletError) {
    guard format == "qcow2" else { return }
    let content: [UInt8]
    do {
      content = try prefix(of: path)
    } catch {
      throw .unreadable(id, .diskLayer, error)
    }
    do throws(SnapshotFormatError) {
      try check(content, backing: backing)
    } catch {
      throw .unusable(id, .diskLayer, error)
    }
  }

  static func check(_ content: [UInt8], backing: (path: FilePath, format: String)) throws(SnapshotFormatError) {
    guard content.count >= bytes, Array(content[0..<4]) == magic else { throw .wrongMagic }
    guard integer(content[4..<8]) == 3 else { throw .invalid("version") }
    guard integer(content[72..<80]) & ~allowedFeatures == 0 else { throw .invalid("feature") }
    let offset = integer(content[8..<16])
    let count = integer(content[16..<20])
    guard count <= maximumBackingNameBytes, offset <= UInt64(content.count), offset + count <= UInt64(content.count)
    else {
      throw .invalid("backing file")
    }
    let name = content[Int(offset)..<Int(offset + count)]
    guard Array(name) == Array(backing.path.string.utf8) else { throw .invalid("backing file") }
    guard backingFormat(content) == Array(backing.format.utf8) else { throw .invalid("backing format") }
  }

  /// The format must be named: QEMU would otherwise detect it from bytes that a guest may have written.
  private static func backingFormat(_ content: [UInt8]) -> [UInt8]? {
    var offset = Int(integer(content[100..<104]))
    while offset >= bytes, offset + 8 <= content.count {
      let type = integer(content[offset..<(offset + 4)])
      let count = Int(integer(content[(offset + 4)..<(offset + 8)]))
      guard type != 0, offset + 8 + count <= content.count else { return nil }
      if type == backingFormatExtension { return Array(content[(offset + 8)..<(offset + 8 + count)]) }
      offset += 8 + (count + 7) / 8 * 8
    }
    return nil
  }

  /// Reads the first cluster, which contains header, extensions and backing file name.
  private static func prefix(of path: FilePath) throws(SystemError) -> [UInt8] {
    let descriptor = try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW)
    var content = [UInt8](repeating: 0, count: 65_536)
    try StoreFile.fill(&content, from: descriptor, path: path)
    return content
  }

  private static func integer(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reduce(0) { $0 << 8 | UInt64($1) }
  }
}
