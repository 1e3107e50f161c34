import Concurrency
import Foundation
import HostAPI
import Model

/// The process sessions of remote callers, by the names that their unary calls contain.
///
/// A session is registered as long as its stream is open, so their number is bounded by the number of connections.
final class ProcessSessions: Sendable {
  private let entries = Mutex([String: OpenSession]())

  /// - Returns: the session with an unguessable name.
  func open(_ session: any ProcessSession) -> OpenSession {
    let name = UUIDText.string(UUID())
    let entry = OpenSession(name: name, session: session)
    entries.withLock { $0[name] = entry }
    return entry
  }

  func close(_ entry: OpenSession) {
    entries.withLock { $0[entry.name] = nil }
  }

  /// - Throws: `not_found` when the session has ended or never existed.
  func session(_ name: String) throws -> OpenSession {
    guard let entry = entries.withLock({ $0[name] }) else {
      throw MartletError(.notFound, "the connection to the process has ended")
    }
    return entry
  }
}

/// An open process session.
final class OpenSession: Sendable {
  let name: String
  let session: any ProcessSession
  /// Ends when the session is detached.
  let detachments: AsyncStream<Void>
  private let detachmentsContinuation: AsyncStream<Void>.Continuation
  private let ended = Mutex(false)

  init(name: String, session: any ProcessSession) {
    self.name = name
    self.session = session
    (detachments, detachmentsContinuation) = AsyncStream.makeStream()
  }

  /// Detaches from the process; only the first call has an effect.
  func detach(killing: Bool) async {
    let isFirst = ended.withLock { ended in
      defer { ended = true }
      return !ended
    }
    guard isFirst else { return }
    detachmentsContinuation.finish()
    // In a task of its own: most callers of this have been cancelled, and the process must be killed nevertheless.
    await Task { await session.detach(killing: killing) }.value
  }
}
