import Foundation
import Model

/// The file, little-endian:
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 8 | magic `MARTLETH` |
/// | 8 | 4 | version, 1 |
/// | 12 | 4 | page size, 4,096 |
/// | 16 | 8 | memory size in bytes |
/// | 24 | 4 | number of generations, 1 to 64 |
/// | 28 | 4 | number of runs |
/// | 32 | 24 each | generation: UUID (16), pages in its layer (4), checksum of the layer's table (4) |
/// | … | 16 each | run: first page (4), pages (4), generation (4; 0xFFFFFFFF: zeros), first page in the layer (4) |
/// | end - 4 | 4 | CRC-32C of all bytes before |
extension MemoryHeader {
  static let magic = Array("MARTLETH".utf8)
  static let version: UInt32 = 1
  static let fixedBytes = 32
  static let layerBytes = 24
  static let runBytes = 16
  static let checksumBytes = 4
  /// Reached when every page is a run of its own.
  static let maximumFileBytes =
    fixedBytes + MemoryGeometry.maximumGenerations * layerBytes + MemoryGeometry.maximumPages * runBytes + checksumBytes

  func encoded() -> [UInt8] {
    let size = Self.fixedBytes + layers.count * Self.layerBytes + map.runs.count * Self.runBytes + Self.checksumBytes
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      var writer = ByteWriter(UnsafeMutableRawBufferPointer(buffer))
      writer.write(Self.magic)
      writer.write(Self.version)
      writer.write(UInt32(MemoryGeometry.pageBytes))
      writer.write(UInt64(memoryBytes))
      writer.write(UInt32(layers.count))
      writer.write(UInt32(map.runs.count))
      for layer in layers { writer.write(layer) }
      for run in map.runs { writer.write(run) }
      writer.writeChecksum()
      count = writer.offset
    }
  }

  /// Validates all of `bytes`; allocates memory in proportion to their number only.
  init(decoding bytes: UnsafeRawBufferPointer) throws(SnapshotFormatError) {
    guard bytes.count >= Self.fixedBytes + Self.checksumBytes, bytes.count <= Self.maximumFileBytes else {
      throw .wrongSize
    }
    var reader = ByteReader(bytes)
    guard reader.readBytes(Self.magic.count) == Self.magic else { throw .wrongMagic }
    guard ByteReader.hasTrailingChecksum(bytes) else { throw .wrongChecksum }
    let version = reader.readUInt32()
    guard version == Self.version else { throw .unsupportedVersion(version) }
    guard reader.readUInt32() == UInt32(MemoryGeometry.pageBytes) else { throw .invalid("page size") }
    guard let memoryBytes = Int64(exactly: reader.readUInt64()) else { throw .invalid("memory size") }
    let layerCount = Int(reader.readUInt32())
    let runCount = Int(reader.readUInt32())
    let size = Self.fixedBytes + layerCount * Self.layerBytes + runCount * Self.runBytes + Self.checksumBytes
    guard size == bytes.count else { throw .wrongSize }
    let layers = (0..<layerCount).map { _ in reader.readLayer() }
    let runs = [MemoryRun](unsafeUninitializedCapacity: runCount) { buffer, count in
      for index in 0..<runCount { buffer.initializeElement(at: index, to: reader.readRun()) }
      count = runCount
    }
    try self.init(memoryBytes: memoryBytes, layers: layers, runs: runs)
  }

  init(decoding bytes: [UInt8]) throws(SnapshotFormatError) {
    let result = bytes.withUnsafeBytes { buffer in
      Result { () throws(SnapshotFormatError) -> MemoryHeader in try MemoryHeader(decoding: buffer) }
    }
    self = try result.get()
  }
}

extension ByteWriter {
  mutating func write(_ layer: MemoryHeader.Layer) {
    write(layer.generation)
    write(layer.pageCount)
    write(layer.tableChecksum)
  }

  mutating func write(_ run: MemoryRun) {
    write(run.start)
    write(run.count)
    write(run.generation)
    write(run.layerPage)
  }
}

extension ByteReader {
  mutating func readLayer() -> MemoryHeader.Layer {
    MemoryHeader.Layer(generation: readGeneration(), pageCount: readUInt32(), tableChecksum: readUInt32())
  }

  mutating func readRun() -> MemoryRun {
    MemoryRun(start: readUInt32(), count: readUInt32(), generation: readUInt32(), layerPage: readUInt32())
  }
}
