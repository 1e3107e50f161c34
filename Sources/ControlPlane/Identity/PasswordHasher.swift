import CArgon2
package import Concurrency
import Dispatch
import Foundation
package import Model

/// Hashes and verifies passwords with Argon2id.
///
/// A hash takes tens of milliseconds and 19 MiB, so only a few run at the same time. Further calls wait in a short
/// queue; beyond that they are refused with the advice to try again. A flood of logins therefore costs neither memory
/// nor the response time of other requests.
///
/// Source: https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html, argon2.h
package final class PasswordHasher: Sendable {
  package struct Parameters: Sendable, Equatable {
    package var passes: UInt32
    package var memoryKiB: UInt32
    package var lanes: UInt32

    package init(passes: UInt32, memoryKiB: UInt32, lanes: UInt32) {
      self.passes = passes
      self.memoryKiB = memoryKiB
      self.lanes = lanes
    }

    package static let standard = Parameters(passes: 2, memoryKiB: 19 * 1024, lanes: 1)
  }

  package static let passwordCharacters = 8...256
  private static let saltBytes = 16
  private static let hashBytes = 32
  /// Upper bound for stored hashes: no hash of this program needs more, and a damaged row must not demand it.
  private static let maximumMemoryKiB: UInt32 = 1 << 20

  package static var tooManyLogins: MartletError {
    MartletError(.rateLimited, "too many logins at the moment; try again", retryAfterSeconds: 2)
  }

  private let evaluationSlots: AsyncSemaphore
  private let parameters: Parameters
  private let queue = DispatchQueue(label: "martlet.passwords", attributes: .concurrent)
  private let count = Mutex(0)

  /// - Parameter evaluationSlots: bounds concurrent evaluations of Argon2, and throws `tooManyLogins` when its queue is
  ///   full.
  package init(
    parameters: Parameters = .standard,
    evaluationSlots: AsyncSemaphore = AsyncSemaphore(permits: 2, maximumWaiters: 64, queueFull: tooManyLogins)
  ) {
    self.parameters = parameters
    self.evaluationSlots = evaluationSlots
  }

  /// The number of Argon2 evaluations so far.
  package var evaluations: Int { count.withLock { $0 } }

  /// - Throws: `invalid_request` for a password outside of the bounds.
  package static func check(_ password: String) throws(MartletError) {
    guard passwordCharacters.contains(password.unicodeScalars.count) else {
      throw MartletError(.invalidRequest, "a password must have 8 to 256 characters")
    }
  }

  /// - Returns: the hash in encoded form, including parameters and salt.
  /// - Throws: `invalid_request` for a password outside of the bounds, `rate_limited`, `internal` when memory is
  ///   exhausted.
  package func hash(_ password: String) async throws -> String {
    try Self.check(password)
    return try await evaluate { [parameters] in
      try Self.encoded(password, salt: Self.randomBytes(Self.saltBytes), parameters)
    }
  }

  /// Whether `password` matches a stored hash. Without a hash it verifies against a decoy, so that the response time
  /// does not reveal whether the user exists.
  /// - Throws: `rate_limited`.
  package func verify(_ password: String, against encoded: String?) async throws -> Bool {
    let target = encoded.flatMap { Self.parameters(of: $0) == nil ? nil : $0 } ?? decoy()
    let matches = try await evaluate {
      let bytes = Array(password.utf8)
      return argon2id_verify(target, bytes, bytes.count) == ARGON2_OK.rawValue
    }
    return matches && encoded == target
  }

  /// Whether a hash was made with weaker parameters than the present ones.
  package func isOutdated(_ encoded: String) -> Bool {
    guard let old = Self.parameters(of: encoded) else { return true }
    return old.passes < parameters.passes || old.memoryKiB < parameters.memoryKiB || old.lanes < parameters.lanes
  }

  private func evaluate<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await evaluationSlots.acquire()
    defer { evaluationSlots.release() }
    count.withLock { $0 += 1 }
    return try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Result(catching: work)) }
    }
  }

  /// A hash with the present parameters that no password matches, except with a probability of 2⁻²⁵⁶.
  private func decoy() -> String {
    let salt = Data(Self.randomBytes(Self.saltBytes)).base64EncodedString().filter { $0 != "=" }
    let hash = Data(Self.randomBytes(Self.hashBytes)).base64EncodedString().filter { $0 != "=" }
    return "$argon2id$v=19$m=\(parameters.memoryKiB),t=\(parameters.passes),p=\(parameters.lanes)$\(salt)$\(hash)"
  }

  private static func encoded(_ password: String, salt: [UInt8], _ parameters: Parameters) throws -> String {
    let bytes = Array(password.utf8)
    let (passes, memory, lanes) = (parameters.passes, parameters.memoryKiB, parameters.lanes)
    let length = argon2_encodedlen(passes, memory, lanes, UInt32(saltBytes), UInt32(hashBytes), Argon2_id)
    var encoded = [CChar](repeating: 0, count: length)
    let code = argon2id_hash_encoded(
      passes, memory, lanes, bytes, bytes.count, salt, salt.count, hashBytes, &encoded, length)
    guard code == ARGON2_OK.rawValue else { throw MartletError(.internalError, "the password could not be hashed") }
    return String(decoding: encoded.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// Parses the parameters of `$argon2id$v=19$m=19456,t=2,p=1$…`; nil for any other format.
  private static func parameters(of encoded: String) -> Parameters? {
    let parts = encoded.split(separator: "$", omittingEmptySubsequences: false)
    guard parts.count == 6, parts[1] == "argon2id", parts[2] == "v=19" else { return nil }
    var values: [Substring: UInt32] = [:]
    for pair in parts[3].split(separator: ",") {
      let sides = pair.split(separator: "=")
      guard sides.count == 2, let number = UInt32(sides[1]) else { return nil }
      values[sides[0]] = number
    }
    guard let memory = values["m"], let passes = values["t"], let lanes = values["p"], memory <= maximumMemoryKiB else {
      return nil
    }
    return Parameters(passes: passes, memoryKiB: memory, lanes: lanes)
  }

  private static func randomBytes(_ count: Int) -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
  }
}
