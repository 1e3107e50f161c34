import CLinux
import LinuxSystem
import Model
import SystemPackage

/// Reads one `memory.layer` without mapping it, so that a disk failure is an error and not a signal. Checks every page.
final class LayerFileReader {
  private let layer: MemoryHeader.Layer
  private let path: FilePath
  private let descriptor: OwnedDescriptor
  private let checksums: [UInt32]

  /// - Throws: as `MemoryLayer`.
  init(_ layer: MemoryHeader.Layer, path: FilePath) throws(MartletError) {
    self.layer = layer
    self.path = path
    descriptor = try MemoryLayer.open(layer, path: path)
    checksums = try Self.table(of: layer, descriptor, path: path)
  }

  /// Fills `buffer` with consecutive pages of the layer, starting with page `first`.
  /// - Throws: `snapshot_damaged` when the checksum of a page is wrong.
  func read(_ buffer: UnsafeMutableRawBufferPointer, from first: Int) throws(MartletError) {
    let count: Int
    do {
      count = try StoreFile.read(descriptor, buffer, at: LayerHeader.offset(ofPage: first), path: path)
    } catch {
      throw .unreadable(layer.generation, .memoryLayer, error)
    }
    guard count == buffer.count else { throw .unusable(layer.generation, .memoryLayer, .wrongSize) }
    let pages = buffer.count / MemoryGeometry.pageBytes
    let intact = checksums.withUnsafeBufferPointer { table in
      clinux_crc32c_first_mismatch(
        buffer.baseAddress, MemoryGeometry.pageBytes, pages, table.baseAddress.map { $0 + first })
    }
    guard intact == pages else {
      throw .damaged(layer.generation, .memoryLayer, "is damaged at page \(first + intact)")
    }
  }

  /// The table as stored in the file: little-endian.
  private static func table(
    of layer: MemoryHeader.Layer, _ descriptor: OwnedDescriptor, path: FilePath
  ) throws(MartletError) -> [UInt32] {
    var table = [UInt32](repeating: 0, count: Int(layer.pageCount))
    let count: Int
    do {
      count = try table.withUnsafeMutableBufferPointer { buffer throws(SystemError) in
        try StoreFile.read(
          descriptor, UnsafeMutableRawBufferPointer(buffer), at: LayerHeader(layer).tableOffset, path: path)
      }
    } catch {
      throw .unreadable(layer.generation, .memoryLayer, error)
    }
    guard count == 4 * table.count, table.withUnsafeBytes({ Checksum.of($0) }) == layer.tableChecksum else {
      throw .unusable(layer.generation, .memoryLayer, .wrongChecksum)
    }
    return table
  }
}
