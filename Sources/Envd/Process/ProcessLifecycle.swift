package import LinuxSystem

/// Decides when a process is over, from events that arrive in any order.
///
/// ```
/// running ──exited──▶ draining ──last output closed──▶ over
///    │                   ▲  └──────stop requested──────▶ over
///    └──stop requested (SIGKILL, SIGTERM, time-out)──▶ running, but `exited` leads to over at once
/// ```
///
/// Without a stop request, the process is over when all outputs have ended, so that later output of its descendants is
/// not lost. After a stop request it does not wait for them, because descendants may hold the pipes open for ever.
package struct ProcessLifecycle: Sendable, Equatable {
  private var openOutputs: Int
  private var status: ExitStatus?
  package private(set) var isStopRequested = false
  package private(set) var isTimeout = false
  /// Set once, when the process is over.
  package private(set) var end: ProcessEnd?

  package init(outputs: Int) {
    self.openOutputs = outputs
  }

  var hasExited: Bool { status != nil }

  /// Each event function returns true exactly if its event ends the process.
  package mutating func outputClosed() -> Bool {
    precondition(openOutputs > 0, "an output was closed twice")
    openOutputs -= 1
    return endIfOver()
  }

  package mutating func exited(_ status: ExitStatus) -> Bool {
    guard self.status == nil else { return false }
    self.status = status
    return endIfOver()
  }

  package mutating func stopRequested(isTimeout: Bool = false) -> Bool {
    guard end == nil else { return false }
    isStopRequested = true
    if isTimeout { self.isTimeout = true }
    return endIfOver()
  }

  private mutating func endIfOver() -> Bool {
    guard end == nil, let status, openOutputs == 0 || isStopRequested else { return false }
    end = ProcessEnd(status: status, isTimeout: isTimeout)
    return true
  }
}
