import Concurrency
import Logging
import Model
import Persistence

/// Notices when the database under a running control plane becomes another installation's, after a restore for example.
///
/// While it is, the control plane asks no host for anything: what the rows say is not about these hosts.
package final class InstallationWatch: Sendable {
  private struct State {
    var expected: InstallationID?
    var isForeign = false
  }

  private let repository: InstallationRepository
  private let logger: Logger
  private let state: Mutex<State>

  /// - Parameter expected: what the hosts belong to; nil: what the database says first.
  init(_ expected: InstallationID?, repository: InstallationRepository, logger: Logger) {
    self.repository = repository
    self.logger = logger
    state = Mutex(State(expected: expected))
  }

  /// As of the last look.
  var isForeign: Bool { state.withLock { $0.isForeign } }

  /// Looks at the database.
  /// - Returns: whether it is the one that this control plane was started on; false when it does not answer.
  func check() async -> Bool {
    do {
      let found = try await repository.id()
      return note(found)
    } catch {
      logger.warning("installation not read", metadata: [LogKey.error: "\(error)"])
      return false
    }
  }

  /// Whether a host obeys this installation. One that belongs to none yet obeys any.
  func isOwn(_ installation: InstallationID?) -> Bool {
    state.withLock { $0.expected == nil || installation == nil || installation == $0.expected }
  }

  private func note(_ found: InstallationID) -> Bool {
    let (hasChanged, isForeign, expected) = state.withLock { state in
      let expected = state.expected ?? found
      let isForeign = found != expected
      defer { (state.expected, state.isForeign) = (expected, isForeign) }
      return (isForeign != state.isForeign, isForeign, expected)
    }
    guard hasChanged else { return !isForeign }
    let metadata: Logger.Metadata = ["installation.id": "\(expected)", "installation.found": "\(found)"]
    if isForeign {
      logger.critical("the database belongs to another installation now: hosts are left alone", metadata: metadata)
    } else {
      logger.notice("the database belongs to this installation again", metadata: metadata)
    }
    return !isForeign
  }
}
