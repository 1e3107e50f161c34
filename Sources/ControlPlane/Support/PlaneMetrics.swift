import Concurrency
import HostAPI
import Model
import Persistence
import Telemetry

/// The metrics of the control plane.
package final class PlaneMetrics: Sendable {
  enum Operation: String {
    case create, pause, resume, fork, snapshot, destroy
    /// A pause because of the idle time-out.
    case autoPause = "auto_pause"
  }

  package static let contentType = MetricRegistry.contentType

  /// Upper bound on phase names as label values, which come from hosts; further names share one value.
  private static let maximumPhases = 64
  /// Histogram bounds in seconds: a restore takes tens of milliseconds, saving a large guest minutes.
  private static let bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

  private let registry = MetricRegistry()
  private let operations: Counter
  private let phases: Histogram
  private let sandboxes: Gauge
  private let repository: SandboxRepository
  private let phaseNames = Mutex(Set<String>())

  init(repository: SandboxRepository) {
    self.repository = repository
    operations = Counter(
      "martlet_operations_total", help: "Operations on sandboxes, by their outcome: ok or an error code.",
      labels: ["operation", "outcome"], in: registry)
    phases = Histogram(
      "martlet_phase_duration_seconds", help: "Duration of each phase of an operation on its host.",
      bounds: Self.bounds,
      labels: ["operation", "phase"], in: registry)
    sandboxes = Gauge(
      "martlet_sandboxes", help: "Sandboxes by status, without finished ones.", labels: ["status"], in: registry)
  }

  func count(_ operation: Operation, _ error: (any Error)? = nil) {
    operations.increment([operation.rawValue, error.map { MartletError.wrapping($0).code.rawValue } ?? "ok"])
  }

  func observe(_ operation: Operation, _ timings: [PhaseTiming]) {
    for timing in timings {
      phases.observe(timing.milliseconds / 1_000, [operation.rawValue, closed(timing.phase)])
    }
  }

  /// Runs `work` and counts it with its outcome. A repeated request is not counted, as its operation was counted the
  /// first time.
  func counting<Value>(_ operation: Operation, _ work: () async throws -> Value) async throws -> Value {
    do {
      let value = try await work()
      count(operation)
      return value
    } catch let repetition as RepeatedRequest {
      throw repetition
    } catch {
      count(operation, error)
      throw error
    }
  }

  /// All metrics in the Prometheus text format.
  package func text() async throws -> String {
    let counts = try await repository.countsByStatus()
    for status in SandboxStatus.allCases where status != .stopped && status != .error {
      sandboxes.set(Double(counts[status] ?? 0), [status.rawValue])
    }
    return registry.text()
  }

  /// The phase name as a label value, if it has a valid form and the number of names is below the bound.
  private func closed(_ name: String) -> String {
    let isName = (1...40).contains(name.utf8.count) && name.utf8.allSatisfy { Self.isNameByte($0) }
    let isKnown = phaseNames.withLock { names in
      if names.contains(name) { return true }
      guard isName, names.count < Self.maximumPhases else { return false }
      names.insert(name)
      return true
    }
    return isKnown ? name : LabelSet.overflow
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): true
    default: false
    }
  }
}
