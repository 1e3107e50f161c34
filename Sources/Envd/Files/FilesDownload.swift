import CLinux
import Concurrency
import Glibc
import HTTPTypes
import Hummingbird
import LinuxSystem
import NIOCore
import SystemPackage

/// `GET` and `HEAD /files`: sends a regular file or a range of it, compressed if the client accepts it and it saves
/// time.
///
/// Source: E2B's envd contract
struct FilesDownload: Sendable {
  /// Sizes of files that are compressed. Smaller ones hardly shrink; for larger ones the guest's CPU costs more time
  /// than the link saves.
  static let worthwhileBytes: Range<Int64> = 1_024..<16_777_216
  /// The file is compressed if its first chunk shrinks below this ratio.
  static let worthwhileRatio = 0.75

  let headers: HTTPFields
  let isHead: Bool
  /// The connection's event loop. NIO's writer notices a full connection only there, so the code awaits the loop after
  /// each chunk: otherwise a slow client would make the agent queue the whole file in the guest's memory.
  let eventLoop: any EventLoop

  func respond(path: String) async throws -> Response {
    let file = try await FileThreads.run { try DownloadedFile.open(path) }
    let coding = try ContentCoding(acceptEncoding: headers[.acceptEncoding])
    if headers[.ifNoneMatch] == file.entityTag {
      return Response(status: .notModified, headers: fields(for: file))
    }
    let isCurrent = headers[.ifRange].map { $0 == file.entityTag } ?? true
    switch ByteRange(header: isCurrent ? headers[.range] : nil, size: file.size) {
    case .whole: return try await whole(file, coding: coding)
    case .part(let range): return part(file, range)
    case .unsatisfiable:
      var fields = fields(for: file)
      fields[.contentRange] = "bytes */\(file.size)"
      return Response(status: .rangeNotSatisfiable, headers: fields)
    }
  }

  private func whole(_ file: DownloadedFile, coding: ContentCoding) async throws -> Response {
    // Files in /proc and similar have content but size 0; they are sent without a length.
    let length = file.size > 0 ? file.size : nil
    let reader = FileChunkReader(file.descriptor, path: file.path, offset: 0, length: length)
    let first = try await FileThreads.run { try reader.next() }
    var fields = fields(for: file)
    if let deflater = try deflater(for: file, first: first, coding: coding) {
      fields[.contentEncoding] = "gzip"
      fields[.acceptRanges] = nil
      return Response(status: .ok, headers: fields, body: body(deflater: deflater, first: first, reader: reader))
    }
    let isEmpty = first.readableBytes == 0
    return Response(
      status: .ok, headers: fields,
      body: body(length: isEmpty ? 0 : length, first: isEmpty ? nil : first, reader: reader))
  }

  private func part(_ file: DownloadedFile, _ range: Range<Int64>) -> Response {
    var fields = fields(for: file)
    fields[.contentRange] = "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(file.size)"
    let length = Int64(range.count)
    let reader = FileChunkReader(file.descriptor, path: file.path, offset: range.lowerBound, length: length)
    return Response(status: .partialContent, headers: fields, body: body(length: length, first: nil, reader: reader))
  }

  /// The uncompressed body. If the file shrinks meanwhile, the connection is closed, so that the client does not take
  /// the truncated file for complete.
  private func body(length: Int64?, first: ByteBuffer?, reader: FileChunkReader) -> ResponseBody {
    let isHead = isHead
    let eventLoop = eventLoop
    return ResponseBody(contentLength: length.map(Int.init)) { writer in
      if !isHead, length != 0 {
        if let first { try await writer.write(first) }
        while true {
          // The writer suspends while the previous chunk is being sent, so reading and sending overlap.
          let chunk = try await FileThreads.run { try reader.next() }
          if chunk.readableBytes == 0 { break }
          try await writer.write(chunk)
          try await eventLoop.submit {}.get()
        }
      }
      try await writer.finish(nil)
    }
  }

  private func body(deflater: Compressor, first: ByteBuffer, reader: FileChunkReader) -> ResponseBody {
    let (isHead, eventLoop) = (isHead, eventLoop)
    return ResponseBody { writer in
      var chunk = first
      while !isHead {
        let input = chunk
        let output = try await FileThreads.run { deflater.compress(input, isLast: input.readableBytes == 0) }
        if output.readableBytes > 0 {
          try await writer.write(output)
          try await eventLoop.submit {}.get()
        }
        if input.readableBytes == 0 { break }
        chunk = try await FileThreads.run { try reader.next() }
      }
      try await writer.finish(nil)
    }
  }

  /// A compressor if the response is to be compressed.
  private func deflater(for file: DownloadedFile, first: ByteBuffer, coding: ContentCoding) throws -> Compressor? {
    switch coding {
    case .identity: return nil
    case .gzipRequired: return try Compressor()
    case .gzipAllowed:
      guard Self.worthwhileBytes.contains(file.size) else { return nil }
      let sample = first.getSlice(at: first.readerIndex, length: min(first.readableBytes, 65_536)) ?? first
      let compressed = try Deflater().compress(sample, isLast: true)
      let isWorthwhile = Double(compressed.readableBytes) < Double(sample.readableBytes) * Self.worthwhileRatio
      return isWorthwhile ? try Compressor() : nil
    }
  }

  private func fields(for file: DownloadedFile) -> HTTPFields {
    [
      .contentType: MediaType.forPath(file.path),
      .contentDisposition: ContentDisposition.inline(filename: LexicalPath.name(of: file.path)),
      .acceptRanges: "bytes",
      .eTag: file.entityTag,
      .vary: "Accept-Encoding",
    ]
  }
}

/// A regular file that is open for a download.
struct DownloadedFile: Sendable {
  let path: String
  let descriptor: OwnedDescriptor
  let size: Int64
  /// Changes whenever the content may have changed.
  let entityTag: String

  /// Opens the file. Blocks, but does not wait for a pipe's writer and does not open devices.
  static func open(_ path: String) throws(FileFailure) -> DownloadedFile {
    do {
      // Checked first through O_PATH, because opening a device can have effects. The file that is then opened is
      // checked again, because it may be another one.
      var status = try examine(OwnedDescriptor.open(path, clinux_o_path), path)
      try requireRegular(status, path)
      let descriptor = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
      status = try examine(descriptor, path)
      try requireRegular(status, path)
      let changed = UInt64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ UInt64(status.st_mtim.tv_nsec)
      let parts = [UInt64(status.st_ino), changed, UInt64(status.st_size)].map { String($0, radix: 16) }
      return DownloadedFile(
        path: path, descriptor: descriptor, size: Int64(status.st_size),
        entityTag: "\"\(parts.joined(separator: "-"))\"")
    } catch let error as SystemError {
      throw FileFailure(error, path: path)
    } catch {
      throw FileFailure.describing(error)
    }
  }

  private static func examine(_ descriptor: OwnedDescriptor, _ path: String) throws(SystemError) -> stat {
    var status = stat()
    try SystemError.check("fstat", path) { fstat(descriptor.rawValue, &status) }
    return status
  }

  private static func requireRegular(_ status: stat, _ path: String) throws(FileFailure) {
    switch status.st_mode & S_IFMT {
    case S_IFREG: return
    case S_IFDIR: throw FileFailure(.invalidArgument, "path '\(path)' is a directory")
    default: throw FileFailure(.invalidArgument, "path '\(path)' is not a regular file")
    }
  }
}

/// Reads a part of an open file in large chunks, for one consumer.
///
/// Buffers are reused once the connection has released them, so a transfer of any length uses only a few. New memory is
/// the largest cost of large reads under emulation.
final class FileChunkReader: Sendable {
  static let chunkBytes = 524_288
  /// One is being filled, one waits, one is being sent, one is in reserve.
  static let bufferCount = 4

  private struct State {
    var buffers: [ByteBuffer] = []
    var next = 0
    var offset: Int64
    /// nil means until the end of the file.
    var remaining: Int64?
  }

  private let descriptor: OwnedDescriptor
  private let path: String
  private let state: Mutex<State>

  /// - Parameter length: bytes to read; nil for files that report no size (/proc).
  init(_ descriptor: OwnedDescriptor, path: String, offset: Int64, length: Int64?) {
    self.descriptor = descriptor
    self.path = path
    state = Mutex(State(offset: offset, remaining: length))
  }

  /// The next chunk; empty at the end. Blocks.
  /// - Throws: `internalError` when the file has become shorter than `length`, which the client was promised.
  func next() throws(FileFailure) -> ByteBuffer {
    try state.withLock { (state) throws(FileFailure) in
      let wanted = Int(min(state.remaining ?? Int64(Self.chunkBytes), Int64(Self.chunkBytes)))
      guard wanted > 0 else { return ByteBuffer() }
      let count = try fill(&state, wanted: wanted)
      if count == 0, state.remaining != nil {
        throw FileFailure(.internalError, "path '\(path)' became shorter while it was read")
      }
      state.offset += Int64(count)
      state.remaining = state.remaining.map { $0 - Int64(count) }
      defer { state.next = (state.next + 1) % Self.bufferCount }
      return state.buffers[state.next]
    }
  }

  private func fill(_ state: inout State, wanted: Int) throws(FileFailure) -> Int {
    if state.buffers.count <= state.next { state.buffers.append(ByteBufferAllocator().buffer(capacity: wanted)) }
    var count = 0
    var failure: SystemError?
    let offset = state.offset
    state.buffers[state.next].clear(minimumCapacity: wanted)
    state.buffers[state.next].writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) { target in
      do {
        count = try SystemError.check("read", path) {
          pread(descriptor.rawValue, target.baseAddress, wanted, off_t(offset))
        }
      } catch {
        failure = error as? SystemError
      }
      return count
    }
    if let failure { throw FileFailure(failure, path: path) }
    return count
  }
}
