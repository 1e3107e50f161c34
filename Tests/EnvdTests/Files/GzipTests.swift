import NIOCore
import Testing

@testable import Envd

@Suite("gzip")
struct GzipTests {
  @Test("compressed data decompresses to the original, for any chunk size", arguments: [1, 100, 65_536])
  func roundTrip(chunk: Int) throws {
    let content = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 / 3) }
    #expect(try Self.inflate(Self.deflate(content), chunk: chunk) == content)
  }

  @Test("several members are one stream")
  func members() throws {
    #expect(try Self.inflate(Self.deflate([1, 2]) + Self.deflate([3]), chunk: 7) == [1, 2, 3])
  }

  @Test("a gzip bomb is decompressed in bounded pieces")
  func bomb() throws {
    let inflater = try Inflater()
    inflater.feed(ByteBuffer(bytes: try Self.deflate([UInt8](repeating: 0, count: 20_000_000))))
    var total = 0
    while let output = try inflater.next() {
      #expect(output.readableBytes <= Inflater.outputBytes)
      total += output.readableBytes
    }
    #expect(total == 20_000_000)
  }

  @Test("truncated streams and other formats are refused")
  func hostile() throws {
    let valid = try Self.deflate([UInt8](repeating: 7, count: 1_000))
    #expect(throws: FileFailure.self) { try Self.inflate(Array(valid.dropLast(4)), chunk: 10) }
    #expect(throws: FileFailure.self) { try Self.inflate(valid + [1, 2, 3], chunk: 10) }
    #expect(throws: FileFailure.self) { try Self.inflate(Array("plain text, not gzip".utf8), chunk: 10) }
    #expect(throws: FileFailure.self) { try Self.inflate([], chunk: 10) }
  }

  static func deflate(_ content: [UInt8]) throws -> [UInt8] {
    let deflater = try Deflater()
    let first = deflater.compress(ByteBuffer(bytes: content), isLast: false)
    return Array(first.readableBytesView) + Array(deflater.compress(ByteBuffer(), isLast: true).readableBytesView)
  }

  static func inflate(_ content: [UInt8], chunk: Int) throws -> [UInt8] {
    let inflater = try Inflater()
    var output: [UInt8] = []
    for start in stride(from: 0, to: content.count, by: chunk) {
      inflater.feed(ByteBuffer(bytes: content[start..<min(start + chunk, content.count)]))
      while let piece = try inflater.next() { output += Array(piece.readableBytesView) }
    }
    try inflater.finish()
    return output
  }
}
