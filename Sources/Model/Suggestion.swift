/// Suggests a known name for a misspelt one.
package enum Suggestion {
  /// Longer names get no suggestion, which bounds the cost for text from clients.
  private static let maximumNameBytes = 64

  /// The candidate with the smallest edit distance.
  /// - Parameter maximumDistance: candidates with a larger distance are not suggested, nor are those whose distance
  ///   exceeds half of their length.
  package static func nearest(to name: String, among candidates: [String], maximumDistance: Int = 3) -> String? {
    guard name.utf8.count <= maximumNameBytes else { return nil }
    let ranked = candidates.map { ($0, distance(Array(name.utf8), Array($0.utf8))) }
    guard let best = ranked.min(by: { $0.1 < $1.1 }), best.1 <= min(maximumDistance, best.0.utf8.count / 2) else {
      return nil
    }
    return best.0
  }

  /// Levenshtein distance.
  private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
    var row = Array(0...right.count)
    for (i, byte) in left.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, other) in right.enumerated() {
        let next = min(row[j] + 1, row[j + 1] + 1, diagonal + (byte == other ? 0 : 1))
        diagonal = row[j + 1]
        row[j + 1] = next
      }
    }
    return row[right.count]
  }
}
