import CLinux
import Glibc
import LinuxSystem
import Model
import SystemPackage

/// Writes one `memory.layer`, page after page, through a buffer of fixed size.
///
/// Before `finish` the file has no header and is not a valid layer.
final class LayerFileWriter {
  static let bufferBytes = 1_048_576
  /// From this length on, copying into the buffer costs more than a separate system call.
  private static let directBytes = 262_144

  private let path: FilePath
  private let id: GenerationID
  private let descriptor: OwnedDescriptor
  private let buffer: UnsafeMutableRawBufferPointer
  private var buffered = 0
  private var offset = LayerHeader.offset(ofPage: 0)
  private var checksums: [UInt32] = []

  init(_ path: FilePath, id: GenerationID) throws(SystemError) {
    self.path = path
    self.id = id
    descriptor = try OwnedDescriptor.open(path.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
    buffer = .allocate(byteCount: Self.bufferBytes, alignment: MemoryGeometry.pageBytes)
  }

  deinit {
    buffer.deallocate()
  }

  var pageCount: Int { checksums.count }

  /// Appends whole pages.
  func append(_ pages: UnsafeRawBufferPointer) throws(SystemError) {
    addChecksums(of: pages)
    if pages.count >= Self.directBytes {
      try flush()
      try StoreFile.write(descriptor, pages, at: offset, path: path)
      offset += pages.count
      return
    }
    if pages.count > buffer.count - buffered { try flush() }
    UnsafeMutableRawBufferPointer(rebasing: buffer[buffered...]).copyMemory(from: pages)
    buffered += pages.count
  }

  /// Writes the buffered pages, the table of checksums and the header. The file is not synchronized yet.
  func finish() throws(SystemError) -> MemoryHeader.Layer {
    try flush()
    let table = checksums.map(\.littleEndian)
    let checksum = try table.withUnsafeBufferPointer { entries throws(SystemError) in
      let bytes = UnsafeRawBufferPointer(entries)
      try StoreFile.write(descriptor, bytes, at: offset, path: path)
      return Checksum.of(bytes)
    }
    let layer = MemoryHeader.Layer(generation: id, pageCount: UInt32(checksums.count), tableChecksum: checksum)
    try LayerHeader(layer).encoded().withUnsafeBufferPointer { bytes throws(SystemError) in
      try StoreFile.write(descriptor, UnsafeRawBufferPointer(bytes), at: 0, path: path)
    }
    return layer
  }

  private func addChecksums(of pages: UnsafeRawBufferPointer) {
    let count = pages.count / MemoryGeometry.pageBytes
    let first = checksums.count
    checksums.append(contentsOf: repeatElement(0, count: count))
    checksums.withUnsafeMutableBufferPointer { table in
      clinux_crc32c_blocks(pages.baseAddress, MemoryGeometry.pageBytes, count, table.baseAddress.map { $0 + first })
    }
  }

  private func flush() throws(SystemError) {
    guard buffered > 0 else { return }
    try StoreFile.write(descriptor, UnsafeRawBufferPointer(rebasing: buffer[0..<buffered]), at: offset, path: path)
    offset += buffered
    buffered = 0
  }
}
