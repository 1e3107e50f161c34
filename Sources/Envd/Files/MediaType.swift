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
