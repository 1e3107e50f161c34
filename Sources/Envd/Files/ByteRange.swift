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
