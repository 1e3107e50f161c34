import Concurrency
import Foundation
import HostAPI
import Model

/// Process sessions of callers elsewhere, by the names under which their unary calls come.
///
/// A session is here for as long as its stream is open; there are at most as many as connections.
final class ProcessSessions: Sendable {
  private let entries = Mutex([String: OpenSession]())

  /// - Returns: the session under a name that nobody can guess.
  func open(_ session: any ProcessSession) -> OpenSession {
    let name = UUIDText.string(UUID())
    let entry = OpenSession(name: name, session: session)
    entries.withLock { $0[name] = entry }
    return entry
  }

  func close(_ entry: OpenSession) {
    entries.withLock { $0[entry.name] = nil }
  }

  /// - Throws: `not_found` when the session has ended, or never was.
  func session(_ name: String) throws -> OpenSession {
    guard let entry = entries.withLock({ $0[name] }) else {
      throw MartletError(.notFound, "the connection to the process has ended")
    }
    return entry
  }
}

/// One session and how it is to end.
final class OpenSession: Sendable {
  let name: String
  let session: any ProcessSession
  /// Ends when the session is detached.
  let detachments: AsyncStream<Void>
  private let announce: AsyncStream<Void>.Continuation
  private let ended = Mutex(false)

  init(name: String, session: any ProcessSession) {
    self.name = name
    self.session = session
    (detachments, announce) = AsyncStream.makeStream()
  }

  /// Gives the process up, once; later calls do nothing.
  func detach(killing: Bool) async {
    let isFirst = ended.withLock { ended in
      defer { ended = true }
      return !ended
    }
    guard isFirst else { return }
    announce.finish()
    // A task of its own, as whoever gives up a session has mostly been cancelled, and the process must die
    // nevertheless.
    await Task { await session.detach(killing: killing) }.value
  }
}
