import CZlib
import Concurrency
import NIOCore

/// Compresses a stream to gzip at the fastest level: the guest's CPU is slower than the link to its host.
final class Deflater {
  private static let level: Int32 = 1

  private var stream = z_stream()

  init() throws(FileFailure) {
    // 15 bits of window, +16 for the gzip format, the default memory level. Source: zlib.h
    let status = deflateInit2_(
      &stream, Self.level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    guard status == Z_OK else { throw FileFailure(.resourceExhausted, "not enough memory to compress the response") }
  }

  deinit {
    deflateEnd(&stream)
  }

  /// Compresses `input`. Output may be delayed until more input or the end.
  func compress(_ input: ByteBuffer, isLast: Bool) -> ByteBuffer {
    var input = input
    var output = ByteBufferAllocator().buffer(capacity: input.readableBytes / 2 + 1_024)
    repeat {
      step(&input, &output, flush: isLast ? Z_FINISH : Z_NO_FLUSH)
    } while stream.avail_out == 0
    return output
  }

  private func step(_ input: inout ByteBuffer, _ output: inout ByteBuffer, flush: Int32) {
    let outputBytes = 65_536
    output.writeWithUnsafeMutableBytes(minimumWritableBytes: outputBytes) { target in
      input.readWithUnsafeMutableReadableBytes { source in
        stream.next_in = source.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_in = UInt32(source.count)
        stream.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_out = UInt32(outputBytes)
        _ = deflate(&stream, flush)
        return source.count - Int(stream.avail_in)
      }
      return outputBytes - Int(stream.avail_out)
    }
  }
}

/// A `Deflater` that several threads may use, one call at a time.
final class Compressor: Sendable {
  private let deflater: Mutex<Deflater>

  init() throws(FileFailure) {
    deflater = Mutex(try Deflater())
  }

  func compress(_ input: ByteBuffer, isLast: Bool) -> ByteBuffer {
    deflater.withLock { $0.compress(input, isLast: isLast) }
  }
}

/// Decompresses a gzip stream incrementally. Several concatenated members are one stream (RFC 1952, 2.2).
///
/// `feed` compressed input, then call `next` until it returns nil. Each output has at most `outputBytes`, independent
/// of the compression ratio.
final class Inflater {
  static let outputBytes = 262_144

  private var stream = z_stream()
  private var input = ByteBuffer()
  /// Whether the last member is complete and no further one has begun.
  private var isAtMemberEnd = false

  init() throws(FileFailure) {
    // 15 bits of window, +16 for the gzip format. Source: zlib.h
    guard inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw FileFailure(.resourceExhausted, "not enough memory to decompress the request body")
    }
  }

  deinit {
    inflateEnd(&stream)
  }

  func feed(_ buffer: ByteBuffer) {
    if input.readableBytes == 0 {
      input = buffer
    } else {
      var rest = buffer
      input.writeBuffer(&rest)
    }
  }

  /// - Returns: nil when all input has been used.
  /// - Throws: `invalidArgument` when the input is not gzip.
  func next() throws(FileFailure) -> ByteBuffer? {
    while input.readableBytes > 0 {
      if isAtMemberEnd { try beginMember() }
      let output = try step()
      if output.readableBytes > 0 { return output }
    }
    return nil
  }

  /// - Throws: `invalidArgument` when the stream is truncated.
  func finish() throws(FileFailure) {
    guard isAtMemberEnd else { throw FileFailure(.invalidArgument, "the gzip request body ends too early") }
  }

  private func beginMember() throws(FileFailure) {
    guard inflateReset(&stream) == Z_OK else { throw FileFailure(.internalError, "the decompressor cannot be reset") }
    isAtMemberEnd = false
  }

  private func step() throws(FileFailure) -> ByteBuffer {
    var output = ByteBufferAllocator().buffer(capacity: Self.outputBytes)
    var status = Z_OK
    output.writeWithUnsafeMutableBytes(minimumWritableBytes: Self.outputBytes) { target in
      input.readWithUnsafeMutableReadableBytes { source in
        stream.next_in = source.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_in = UInt32(source.count)
        stream.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_out = UInt32(Self.outputBytes)
        status = inflate(&stream, Z_NO_FLUSH)
        return source.count - Int(stream.avail_in)
      }
      return Self.outputBytes - Int(stream.avail_out)
    }
    guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR else {
      throw FileFailure(.invalidArgument, "the request body is not valid gzip")
    }
    isAtMemberEnd = status == Z_STREAM_END
    return output
  }
}
