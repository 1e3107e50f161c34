/// An error while making or removing a sandbox's network. For the log: it names links and addresses of the host.
package struct NetworkError: Error, Sendable, CustomStringConvertible {
  package enum Reason: Sendable {
    case invalidConfiguration(String)
    case invalidPolicy(String)
    case slotOutOfRange(capacity: Int)
    /// Another create or remove of this slot is running in this process.
    case slotBusy
    /// The slot's namespace exists already: a dead host agent left it, or it is in use. Nothing was changed.
    case slotExists
    case failed(NetworkStep, any Error)
    /// Several steps failed independently; all were tried.
    case several([NetworkError])
  }

  package let reason: Reason
  package let slot: Int?
  /// Undo steps that failed after the error; the resources that they should have removed still exist.
  package let undoFailures: [NetworkError]

  package init(_ reason: Reason, slot: Int? = nil, undoFailures: [NetworkError] = []) {
    self.reason = reason
    self.slot = slot
    self.undoFailures = undoFailures
  }

  func with(undoFailures: [NetworkError]) -> NetworkError {
    NetworkError(reason, slot: slot, undoFailures: undoFailures)
  }

  /// Joins several errors into one; nil when there are none.
  static func joined(_ errors: [NetworkError], slot: Int? = nil) -> NetworkError? {
    guard let first = errors.first else { return nil }
    return errors.count == 1 ? first : NetworkError(.several(errors), slot: slot)
  }

  package var description: String {
    let place = slot.map { "network slot \($0): " } ?? "network: "
    let undo = undoFailures.isEmpty ? "" : "; the undo failed too: \(undoFailures)"
    return place + text + undo
  }

  private var text: String {
    switch reason {
    case .invalidConfiguration(let problem), .invalidPolicy(let problem): problem
    case .slotOutOfRange(let capacity): "not between 0 and \(capacity - 1)"
    case .slotBusy: "another operation on it is running"
    case .slotExists: "its namespace exists already"
    case .failed(let step, let cause): "\(step.rawValue): \(cause)"
    case .several(let errors): errors.map(\.description).joined(separator: "; ")
    }
  }
}

/// The steps of making and removing networks, named in errors and in tests' fault plans.
package enum NetworkStep: String, Sendable, CaseIterable {
  case createLinks = "create namespace and veth pair"
  case configureKernel = "set kernel parameters of the namespace"
  case configureInside = "configure links inside the namespace"
  case loadRules = "load the namespace's rules"
  case removeLink = "remove the veth pair"
  case removeNamespace = "remove the namespace"
  case loadHostRules = "load the host's rules"
  case enableForwarding = "enable forwarding on the host"
  case removeHostRules = "remove the host's rules"
  case listNamespaces = "list namespaces"
  case listLinks = "list links"
  case inspect = "inspect the host"
}
