import Foundation

/// Formats times of responses: UTC, with microseconds. Does not use Foundation's formatter because every response
/// contains times.
enum RFC3339 {
  /// Years 1 to 9999, in seconds since 1970.
  private static let expressible = -62_135_596_800.0...253_402_300_799.0

  /// Seconds since 1970, limited to the years that the format can express. Some times come from guests and may be
  /// invalid.
  static func seconds(_ date: Date) -> Double {
    let seconds = date.timeIntervalSince1970
    guard !expressible.contains(seconds) else { return seconds }
    return seconds > expressible.upperBound ? expressible.upperBound : expressible.lowerBound
  }

  static func text(_ date: Date) -> String {
    let microseconds = Int64((seconds(date) * 1_000_000).rounded())
    let (seconds, fraction) = floorDivide(microseconds, 1_000_000)
    let (days, secondOfDay) = floorDivide(seconds, 86_400)
    let (year, month, day) = civil(days)
    var output: [UInt8] = []
    output.reserveCapacity(27)
    append(year, 4, &output)
    output.append(UInt8(ascii: "-"))
    append(month, 2, &output)
    output.append(UInt8(ascii: "-"))
    append(day, 2, &output)
    output.append(UInt8(ascii: "T"))
    append(secondOfDay / 3_600, 2, &output)
    output.append(UInt8(ascii: ":"))
    append(secondOfDay / 60 % 60, 2, &output)
    output.append(UInt8(ascii: ":"))
    append(secondOfDay % 60, 2, &output)
    output.append(UInt8(ascii: "."))
    append(fraction, 6, &output)
    output.append(UInt8(ascii: "Z"))
    return String(decoding: output, as: UTF8.self)
  }

  /// Source: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
  private static func civil(_ days: Int64) -> (Int64, Int64, Int64) {
    let (era, dayOfEra) = floorDivide(days + 719_468, 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
  }

  private static func floorDivide(_ value: Int64, _ divisor: Int64) -> (Int64, Int64) {
    let quotient = value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor)
    return (quotient, value - quotient * divisor)
  }

  /// Writes the last `width` decimal digits of `value`, which is not negative.
  private static func append(_ value: Int64, _ width: Int, _ output: inout [UInt8]) {
    var power: Int64 = 1
    for _ in 1..<width { power *= 10 }
    while power > 0 {
      output.append(UInt8(ascii: "0") + UInt8(value / power % 10))
      power /= 10
    }
  }
}
