import CLinux
import Foundation
import Model

/// Writes little-endian fields one after the other.
///
/// - Precondition: the buffer is large enough for all fields.
struct ByteWriter {
  private let buffer: UnsafeMutableRawBufferPointer
  private(set) var offset = 0

  init(_ buffer: UnsafeMutableRawBufferPointer) {
    self.buffer = buffer
  }

  mutating func write(_ value: UInt32) {
    buffer.storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt32.self)
    offset += 4
  }

  mutating func write(_ value: UInt64) {
    buffer.storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt64.self)
    offset += 8
  }

  mutating func write(_ bytes: [UInt8]) {
    UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<(offset + bytes.count)]).copyBytes(from: bytes)
    offset += bytes.count
  }

  mutating func write(_ id: GenerationID) {
    write(withUnsafeBytes(of: id.uuid.uuid) { Array($0) })
  }

  mutating func skip(to newOffset: Int) {
    precondition(newOffset >= offset && newOffset <= buffer.count, "a field outside of the buffer")
    UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<newOffset]).initializeMemory(as: UInt8.self, repeating: 0)
    offset = newOffset
  }

  /// Writes the checksum of all bytes written so far.
  mutating func writeChecksum() {
    write(Checksum.of(UnsafeRawBufferPointer(rebasing: buffer[0..<offset])))
  }
}

/// Reads little-endian fields one after the other.
///
/// - Precondition: the buffer holds all fields that are read; the creator of a reader compares sizes first.
struct ByteReader {
  private let buffer: UnsafeRawBufferPointer
  private(set) var offset = 0

  init(_ buffer: UnsafeRawBufferPointer) {
    self.buffer = buffer
  }

  mutating func readUInt32() -> UInt32 {
    defer { offset += 4 }
    return UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  mutating func readUInt64() -> UInt64 {
    defer { offset += 8 }
    return UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  mutating func readBytes(_ count: Int) -> [UInt8] {
    defer { offset += count }
    return Array(buffer[offset..<(offset + count)])
  }

  mutating func readGeneration() -> GenerationID {
    defer { offset += 16 }
    return GenerationID(UUID(uuid: buffer.loadUnaligned(fromByteOffset: offset, as: uuid_t.self)))
  }

  /// Whether the last four bytes are the checksum of the bytes before them.
  static func hasTrailingChecksum(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard bytes.count >= 4 else { return false }
    let body = UnsafeRawBufferPointer(rebasing: bytes[0..<(bytes.count - 4)])
    return UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: body.count, as: UInt32.self)) == Checksum.of(body)
  }
}

/// CRC-32C (Castagnoli).
enum Checksum {
  static func of(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    clinux_crc32c(0, bytes.baseAddress, bytes.count)
  }

  static func of(_ bytes: [UInt8]) -> UInt32 {
    bytes.withUnsafeBytes { of($0) }
  }
}
