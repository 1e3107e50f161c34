package import FoundationEssentials
package import LinuxSystem

/// The output of a process from which bytes come.
package enum OutputChannel: Sendable, Hashable, CaseIterable {
  case standardOutput
  case standardError
  case terminal
}

/// How a process ended.
package struct ProcessEnd: Sendable, Equatable {
  package var status: ExitStatus
  /// The agent killed the process because its time-out had passed.
  package var isTimeout: Bool

  package init(status: ExitStatus, isTimeout: Bool = false) {
    self.status = status
    self.isTimeout = isTimeout
  }
}

/// One update for the subscribers of a process.
package enum ProcessUpdate: Sendable, Equatable {
  case started(pid: UInt32)
  case output(OutputChannel, Data)
  case ended(ProcessEnd)
  /// Nothing has happened for the subscriber's keep-alive interval.
  case keepAlive

  var outputBytes: Int {
    guard case .output(_, let bytes) = self else { return 0 }
    return bytes.count
  }
}
