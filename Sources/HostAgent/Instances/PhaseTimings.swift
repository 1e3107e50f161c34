import HostAPI

/// Durations of the phases of one operation.
struct PhaseTimings: Sendable {
  private(set) var phases: [PhaseTiming] = []

  mutating func add(_ phase: String, since begin: ContinuousClock.Instant) {
    phases.append(PhaseTiming(phase: phase, milliseconds: (ContinuousClock.now - begin).fractionalMilliseconds))
  }

  mutating func append(_ other: PhaseTimings) { phases += other.phases }

  var text: String { phases.map { "\($0.phase)=\(($0.milliseconds * 10).rounded() / 10)" }.joined(separator: " ") }
}

extension Duration {
  var milliseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1_000 + attoseconds / 1_000_000_000_000_000
  }

  var fractionalMilliseconds: Double {
    let (seconds, attoseconds) = components
    return Double(seconds) * 1_000 + Double(attoseconds / 1_000_000_000) / 1_000_000
  }
}
