import CZlib
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
