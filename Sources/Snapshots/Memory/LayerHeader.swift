import Model

/// The first page of `memory.layer`; pages follow it, then a table with the CRC-32C of each page (4 bytes).
/// Little-endian:
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 8 | magic `MARTLETL` |
/// | 8 | 4 | version, 1 |
/// | 12 | 4 | page size, 4,096 |
/// | 16 | 16 | generation UUID |
/// | 32 | 4 | number of pages |
/// | 36 | 4 | CRC-32C of the table |
/// | 40 | 4,052 | zeros |
/// | 4,092 | 4 | CRC-32C of all bytes before |
struct LayerHeader: Equatable, Sendable {
  static let magic = Array("MARTLETL".utf8)
  static let version: UInt32 = 1
  static let bytes = MemoryGeometry.pageBytes

  let layer: MemoryHeader.Layer

  /// Offset of a page in the file.
  static func offset(ofPage page: Int) -> Int { bytes + page * MemoryGeometry.pageBytes }

  var tableOffset: Int { Self.offset(ofPage: Int(layer.pageCount)) }
  var fileBytes: Int { tableOffset + 4 * Int(layer.pageCount) }

  init(_ layer: MemoryHeader.Layer) {
    self.layer = layer
  }

  init(decoding bytes: [UInt8]) throws(SnapshotFormatError) {
    guard bytes.count == Self.bytes else { throw .wrongSize }
    let result = bytes.withUnsafeBytes { buffer in
      Result { () throws(SnapshotFormatError) -> MemoryHeader.Layer in try Self.decode(buffer) }
    }
    layer = try result.get()
  }

  private static func decode(_ buffer: UnsafeRawBufferPointer) throws(SnapshotFormatError) -> MemoryHeader.Layer {
    var reader = ByteReader(buffer)
    guard reader.readBytes(magic.count) == magic else { throw .wrongMagic }
    guard ByteReader.hasTrailingChecksum(buffer) else { throw .wrongChecksum }
    let version = reader.readUInt32()
    guard version == Self.version else { throw .unsupportedVersion(version) }
    guard reader.readUInt32() == UInt32(MemoryGeometry.pageBytes) else { throw .invalid("page size") }
    let layer = reader.readLayer()
    guard layer.pageCount <= UInt32(MemoryGeometry.maximumPages) else { throw .invalid("number of pages") }
    return layer
  }

  func encoded() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: Self.bytes) { buffer, count in
      var writer = ByteWriter(UnsafeMutableRawBufferPointer(buffer))
      writer.write(Self.magic)
      writer.write(Self.version)
      writer.write(UInt32(MemoryGeometry.pageBytes))
      writer.write(layer)
      writer.skip(to: Self.bytes - MemoryHeader.checksumBytes)
      writer.writeChecksum()
      count = writer.offset
    }
  }
}
