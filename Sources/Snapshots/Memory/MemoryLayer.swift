import CLinux
import Glibc
package import LinuxSystem
package import Model
package import SystemPackage

/// The layer of one generation, open for reading; its header and its table of checksums are verified.
package final class MemoryLayer: Sendable {
  package let generation: GenerationID
  package let path: FilePath
  package let pageCount: Int
  private let file: MappedFile

  /// The layer must stay referenced while the descriptor is in use elsewhere.
  package var descriptor: OwnedDescriptor { file.descriptor }

  /// - Parameter expected: the layer as the header that refers to it describes it.
  /// - Throws: `snapshot_damaged`, `snapshot_incompatible`; `internal` when the host lacks a resource for opening it.
  init(_ expected: MemoryHeader.Layer, path: FilePath) throws(MartletError) {
    let opened = try Self.open(expected, path: path)
    generation = expected.generation
    self.path = path
    pageCount = Int(expected.pageCount)
    file = try storing("the memory of snapshot \(expected.generation) could not be mapped") { () throws(SystemError) in
      try MappedFile(opened, size: LayerHeader(expected).fileBytes, path: path)
    }
    guard Checksum.of(table) == expected.tableChecksum else {
      throw .unusable(generation, .memoryLayer, .wrongChecksum)
    }
  }

  /// The bytes of consecutive pages, in place.
  /// - Precondition: the pages are in the layer.
  func bytes(of pages: Range<Int>) -> UnsafeRawBufferPointer {
    let bytes = LayerHeader.offset(ofPage: pages.lowerBound)..<LayerHeader.offset(ofPage: pages.upperBound)
    return UnsafeRawBufferPointer(rebasing: file.bytes[bytes])
  }

  func checksum(of page: Int) -> UInt32 {
    UInt32(littleEndian: table.load(fromByteOffset: 4 * page, as: UInt32.self))
  }

  /// The first of `pages` whose checksum is wrong; nil when all are right.
  func firstDamaged(in pages: Range<Int>) -> Int? {
    firstMismatch(of: bytes(of: pages).baseAddress, with: pages)
  }

  /// The first of `pages` whose checksum differs from that of the corresponding page in `content`.
  func firstMismatch(of content: UnsafeRawPointer?, with pages: Range<Int>) -> Int? {
    let checksums = table.baseAddress.map { ($0 + 4 * pages.lowerBound).assumingMemoryBound(to: UInt32.self) }
    let index = clinux_crc32c_first_mismatch(content, MemoryGeometry.pageBytes, pages.count, checksums)
    return index < pages.count ? pages.lowerBound + index : nil
  }

  private var table: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: file.bytes[LayerHeader.offset(ofPage: pageCount)...])
  }

  /// Opens the file and compares its header and size with `expected`. Reads one page.
  static func open(_ expected: MemoryHeader.Layer, path: FilePath) throws(MartletError) -> OwnedDescriptor {
    let id = expected.generation
    let descriptor: OwnedDescriptor
    let size: Int64
    var first = [UInt8](repeating: 0, count: LayerHeader.bytes)
    do throws(SystemError) {
      descriptor = try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW)
      size = try FileStatus.of(descriptor: descriptor.rawValue).sizeBytes
      try StoreFile.fill(&first, from: descriptor, path: path)
    } catch {
      throw .unreadable(id, .memoryLayer, error)
    }
    do throws(SnapshotFormatError) {
      let header = try LayerHeader(decoding: first)
      guard header.layer == expected else { throw SnapshotFormatError.invalid("identity") }
      guard size == Int64(header.fileBytes) else { throw SnapshotFormatError.wrongSize }
    } catch {
      throw .unusable(id, .memoryLayer, error)
    }
    return descriptor
  }
}
