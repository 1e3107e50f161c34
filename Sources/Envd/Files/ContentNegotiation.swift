/// The part of a file that a `Range` header requests.
///
/// A single byte range is supported. Several ranges, other units and malformed headers are ignored, as the
/// specification allows.
///
/// Source: RFC 9110, 14
enum ByteRange: Sendable, Equatable {
  /// Status 200 with the whole file.
  case whole
  /// Status 206 with these bytes; never empty.
  case part(Range<Int64>)
  /// Status 416.
  case unsatisfiable

  init(header: String?, size: Int64) {
    guard let header, let specification = Self.singleRange(header) else {
      self = .whole
      return
    }
    self = Self.select(specification, size: size)
  }

  private static func singleRange(_ header: String) -> (first: Substring, last: Substring)? {
    let halves = header.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard halves.count == 2, halves[0].lowercased() == "bytes" else { return nil }
    let bounds = halves[1].split(separator: "-", omittingEmptySubsequences: false)
    guard bounds.count == 2, bounds.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }) else {
      return nil
    }
    return (bounds[0], bounds[1])
  }

  private static func select(_ specification: (first: Substring, last: Substring), size: Int64) -> ByteRange {
    switch (Int64(specification.first), Int64(specification.last)) {
    case (nil, let suffix?) where specification.first.isEmpty:
      guard suffix > 0, size > 0 else { return .unsatisfiable }
      return .part(max(0, size - suffix)..<size)
    case (let first?, nil) where specification.last.isEmpty:
      return first < size ? .part(first..<size) : .unsatisfiable
    case (let first?, let last?):
      guard first <= last else { return .whole }
      return first < size ? .part(first..<min(last, size - 1) + 1) : .unsatisfiable
    default:
      return .whole
    }
  }
}

/// The encodings that a client accepts for a download.
///
/// Source: RFC 9110, 12.5.3
enum ContentCoding: Sendable, Equatable {
  case identity
  /// The client accepts gzip and identity; the server decides.
  case gzipAllowed
  /// The client accepts only gzip.
  case gzipRequired

  /// - Throws: `notAcceptable` when neither gzip nor identity may be used.
  init(acceptEncoding header: String?) throws(FileFailure) {
    var qualities: [Substring: Double] = [:]
    for item in (header ?? "").split(separator: ",") {
      let parts = item.split(separator: ";")
      guard let name = parts.first?.trimmed, !name.isEmpty else { continue }
      qualities[Substring(name.lowercased())] = Self.quality(parts.dropFirst())
    }
    let any = qualities["*"]
    let gzip = (qualities["gzip"] ?? qualities["x-gzip"] ?? any ?? 0) > 0
    let identity = (qualities["identity"] ?? (any == 0 ? 0 : 1)) > 0
    switch (gzip, identity) {
    case (true, true): self = .gzipAllowed
    case (true, false): self = .gzipRequired
    case (false, true): self = .identity
    case (false, false):
      throw FileFailure(.notAcceptable, "no acceptable encoding: gzip and identity are supported")
    }
  }

  private static func quality(_ parameters: ArraySlice<Substring>) -> Double {
    for parameter in parameters {
      let parameter = parameter.trimmed
      if parameter.hasPrefix("q=") || parameter.hasPrefix("Q=") { return Double(parameter.dropFirst(2)) ?? 1 }
    }
    return 1
  }
}

extension Substring {
  /// Without spaces and tabs at both ends.
  var trimmed: Substring {
    let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" }
    guard let last = lastIndex(where: { !isBlank($0) }) else { return self[endIndex...] }
    return self[...last].drop(while: isBlank)
  }
}

/// Content types of downloads that a browser can show; everything else is `application/octet-stream`.
enum MediaType {
  private static let types: [String: String] = [
    "css": "text/css; charset=utf-8", "csv": "text/csv; charset=utf-8", "gif": "image/gif",
    "htm": "text/html; charset=utf-8",
    "html": "text/html; charset=utf-8", "jpeg": "image/jpeg", "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json", "md": "text/markdown; charset=utf-8", "mp4": "video/mp4", "pdf": "application/pdf",
    "png": "image/png", "svg": "image/svg+xml", "txt": "text/plain; charset=utf-8", "wasm": "application/wasm",
    "webp": "image/webp", "xml": "text/xml; charset=utf-8", "zip": "application/zip",
  ]

  static func forPath(_ path: String) -> String {
    let name = LexicalPath.name(of: path)
    guard let dot = name.lastIndex(of: ".") else { return "application/octet-stream" }
    return types[name[name.index(after: dot)...].lowercased()] ?? "application/octet-stream"
  }
}

/// The `Content-Disposition` of a download. Source: RFC 6266, RFC 8187
enum ContentDisposition {
  /// `inline` with the name as plain text if possible, otherwise percent-encoded.
  static func inline(filename: String) -> String {
    let plain = filename.unicodeScalars.allSatisfy {
      $0.isASCII && $0.value >= 0x20 && $0.value != 0x7F && $0 != "\"" && $0 != "\\"
    }
    if plain { return "inline; filename=\"\(filename)\"" }
    return "inline; filename*=UTF-8''" + filename.utf8.map(encode).joined()
  }

  private static func encode(_ byte: UInt8) -> String {
    let scalar = Unicode.Scalar(byte)
    let isPlain =
      scalar.isASCII
      && (Character(scalar).isLetter || Character(scalar).isNumber || "-._~".unicodeScalars.contains(scalar))
    if isPlain { return String(scalar) }
    let digits = String(byte, radix: 16, uppercase: true)
    return "%" + (digits.count == 1 ? "0" : "") + digits
  }
}
