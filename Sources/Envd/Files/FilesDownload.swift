import HTTPTypes
import Hummingbird
import NIOCore

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
