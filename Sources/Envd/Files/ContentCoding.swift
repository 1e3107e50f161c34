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
