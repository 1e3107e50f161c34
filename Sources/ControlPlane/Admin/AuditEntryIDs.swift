import Crypto
import Foundation
import Model

/// The ids of one team's audit entries: opaque texts that stand for the numbers of their rows.
///
/// The rows of all teams have their numbers from one sequence, which would tell each team how much the others do. An id
/// is the number, permuted under a key that follows from the installation's secret and the team: a Feistel network of
/// eight rounds over two halves of 32 bits, with HMAC-SHA256 as round function. An id of another team, or one that was
/// made up, is almost always a number that no row can have.
///
/// Source: Luby and Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", 1988.
struct AuditEntryIDs {
  /// Rows are never numbered so high.
  private static let maximumNumber = 1 << 47
  private static let rounds = UInt8(0)..<8
  private static let digits = 16

  private let key: SymmetricKey

  init(secret: TokenSecret, team: TeamID) {
    key = secret.key(for: "audit entries of \(team.wire)")
  }

  func id(of number: Int) -> String {
    var (left, right) = (UInt32(truncatingIfNeeded: number >> 32), UInt32(truncatingIfNeeded: number))
    for round in Self.rounds { (left, right) = (right, left ^ value(round, right)) }
    let text = String(UInt64(left) << 32 | UInt64(right), radix: 16)
    return String(repeating: "0", count: Self.digits - text.count) + text
  }

  /// - Throws: `invalid_request` for what is no id of this team.
  func number(of id: String) throws(MartletError) -> Int {
    guard id.utf8.count == Self.digits, id.utf8.allSatisfy(Self.isDigit), let value = UInt64(id, radix: 16) else {
      throw Self.malformed
    }
    var (left, right) = (UInt32(value >> 32), UInt32(truncatingIfNeeded: value))
    for round in Self.rounds.reversed() { (left, right) = (right ^ self.value(round, left), left) }
    let number = UInt64(left) << 32 | UInt64(right)
    guard (1...UInt64(Self.maximumNumber)).contains(number) else { throw Self.malformed }
    return Int(number)
  }

  private func value(_ round: UInt8, _ half: UInt32) -> UInt32 {
    let bytes = [round] + withUnsafeBytes(of: half.bigEndian) { Array($0) }
    return HMAC<SHA256>.authenticationCode(for: bytes, using: key).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
  }

  private static var malformed: MartletError {
    MartletError(.invalidRequest, "cursor must be the X-Next-Cursor of the page before")
  }
}
