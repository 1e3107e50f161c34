package import SwiftProtobuf

#if canImport(FoundationEssentials)
  package import FoundationEssentials
#else
  package import Foundation
#endif

/// Conversions that accept every message. The library's own conversions overflow on hostile values.
extension Google_Protobuf_Timestamp {
  /// Seconds since 1970 of the years 1 to 9999, the range of a protobuf timestamp. Source:
  /// google/protobuf/timestamp.proto
  private static let range = -62_135_596_800.0...253_402_300_799.0
  private static let secondsTo2001 = 978_307_200.0

  package init(clamping date: Date) {
    self.init()
    let exact = date.timeIntervalSinceReferenceDate
    guard exact.isFinite, Self.range.contains(exact + Self.secondsTo2001) else {
      seconds = Int64(exact > 0 ? Self.range.upperBound : Self.range.lowerBound)
      return
    }
    let whole = exact.rounded(.down)
    let rest = Int64(((exact - whole) * 1_000_000_000).rounded())
    seconds = Int64(whole) + Int64(Self.secondsTo2001) + rest / 1_000_000_000
    nanos = Int32(rest % 1_000_000_000)
  }

  /// The time of the message, clamped to the valid range.
  package var clampedDate: Date {
    let whole = min(max(Double(seconds), Self.range.lowerBound), Self.range.upperBound)
    let rest = min(max(Double(nanos), 0), 999_999_999) / 1_000_000_000
    // Counted from 2001, as `Date` does, so that no precision is lost.
    return Date(timeIntervalSinceReferenceDate: whole - Self.secondsTo2001 + rest)
  }
}
