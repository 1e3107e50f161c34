import Foundation

/// Times on the wire: UTC, with microseconds. Written by hand because it is on the path of every response.
enum RFC3339 {
  static func text(_ date: Date) -> String {
    let microseconds = Int64((date.timeIntervalSince1970 * 1_000_000).rounded())
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

  private static func append(_ value: Int64, _ width: Int, _ output: inout [UInt8]) {
    let digits = Array(String(value).utf8)
    for _ in digits.count..<max(width, digits.count) { output.append(UInt8(ascii: "0")) }
    output += digits
  }
}
