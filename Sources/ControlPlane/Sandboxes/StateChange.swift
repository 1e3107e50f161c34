import Logging
import Model

/// A change of state that the host performs. While it does, the row says `through`, from before the host is asked
/// (TTL-11).
struct StateChange: Sendable {
  let action: String
  let operation: PlaneMetrics.Operation
  let from: SandboxStatus
  let through: SandboxStatus
  let to: SandboxStatus
  /// After this the caller gets its answer; the host goes on, and the monitor records how it ends.
  let deadline: Duration
  let done: Logger.Message
  let notDone: Logger.Message

  /// Saving the memory of a large guest takes minutes.
  static let pause = StateChange(
    action: "sandbox.pause", operation: .pause, from: .running, through: .pausing, to: .paused, deadline: .seconds(600),
    done: "sandbox paused", notDone: "sandbox not paused")
  static let resume = StateChange(
    action: "sandbox.resume", operation: .resume, from: .paused, through: .resuming, to: .running,
    deadline: .seconds(300),
    done: "sandbox resumed", notDone: "sandbox not resumed")
}
