import Logging
import Model

/// A change of state that the host performs. From before the call to the host until its result is recorded, the row has
/// the state `through`.
struct StateChange: Sendable {
  let action: String
  let operation: PlaneMetrics.Operation
  let from: SandboxStatus
  let through: SandboxStatus
  let to: SandboxStatus
  /// After this time the call fails for the caller; the host continues, and the monitor records the result.
  let deadline: Duration
  let successMessage: Logger.Message
  let failureMessage: Logger.Message

  /// A pause; saving the memory of a large guest takes minutes.
  static let pause = StateChange(
    action: "sandbox.pause", operation: .pause, from: .running, through: .pausing, to: .paused, deadline: .seconds(600),
    successMessage: "sandbox paused", failureMessage: "sandbox not paused")
  static let resume = StateChange(
    action: "sandbox.resume", operation: .resume, from: .paused, through: .resuming, to: .running,
    deadline: .seconds(300),
    successMessage: "sandbox resumed", failureMessage: "sandbox not resumed")
}
