import CArgon2
import Dispatch
import Model

/// Argon2id for passwords (AUTH-1): 19 MiB, two passes, one lane, 16 bytes of salt.
///
/// The actor runs on a queue of its own: hashing blocks for tens of milliseconds, which the cooperative pool must not, and one at a
/// time bounds the memory that a flood of logins can take.
///
/// Source: https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html, argon2.h
package actor PasswordHasher {
  private static let passes: UInt32 = 2
  private static let memoryKiB: UInt32 = 19 * 1024
  private static let lanes: UInt32 = 1
  private static let saltBytes = 16
  private static let hashBytes = 32
  package static let passwordCharacters = 8...256

  private let executor = BlockingExecutor()
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  package init() {}

  /// - Returns: the encoded form, parameters and salt included.
  /// - Throws: `invalid_request` for a password outside of the bounds, `internal` when there is no memory.
  package func hash(_ password: String) throws -> String {
    guard Self.passwordCharacters.contains(password.count) else {
      throw MartletError(.invalidRequest, "a password must have 8 to 256 characters")
    }
    var generator = SystemRandomNumberGenerator()
    let salt = (0..<Self.saltBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    let bytes = Array(password.utf8)
    let length = argon2_encodedlen(
      Self.passes, Self.memoryKiB, Self.lanes, UInt32(Self.saltBytes), UInt32(Self.hashBytes), Argon2_id)
    var encoded = [CChar](repeating: 0, count: length)
    let code = argon2id_hash_encoded(
      Self.passes, Self.memoryKiB, Self.lanes, bytes, bytes.count, salt, salt.count, Self.hashBytes, &encoded, length)
    guard code == ARGON2_OK.rawValue else { throw MartletError(.internalError, "the password could not be hashed") }
    return String(decoding: encoded.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  package func verify(_ password: String, against encoded: String) -> Bool {
    let bytes = Array(password.utf8)
    return argon2id_verify(encoded, bytes, bytes.count) == ARGON2_OK.rawValue
  }
}

/// Runs an actor's jobs on a dispatch queue, where they may block.
private final class BlockingExecutor: SerialExecutor {
  private let queue = DispatchQueue(label: "martlet.passwords")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }
}
