import Concurrency
import Glibc
import LinuxSystem
import SystemPackage
import Testing

@testable import HostAgent

struct Injected: Error {}

/// Throws once, at one step.
func failing(at moment: StepObserver.Moment) -> StepObserver {
  let spent = Mutex(false)
  return StepObserver { now in
    let fails = spent.withLock { spent in
      guard now == moment, !spent else { return false }
      spent = true
      return true
    }
    if fails { throw Injected() }
  }
}

/// A switch that a test turns on at a chosen time.
final class Flag: Sendable {
  private let value: Mutex<Bool>

  init(_ isOn: Bool = false) { value = Mutex(isOn) }

  var isOn: Bool { value.withLock { $0 } }
  func set(_ isOn: Bool) { value.withLock { $0 = isOn } }
}

/// Once armed, never returns from one step, nor from any later one, as if the host agent had died there.
func hanging(
  at moment: StepObserver.Moment, _ armed: Flag = Flag(true), reached: AsyncStream<Void>.Continuation
) -> StepObserver {
  let isDead = Flag(false)
  let underWay = Mutex<Set<String>>([])
  return StepObserver { now in
    let step = String(now.name.prefix { $0 != "-" }) + (now.name.split(separator: "-").dropFirst().first ?? "")
    if now.name.hasSuffix("-after") { underWay.withLock { _ = $0.remove(step) } }
    if now == moment, armed.isOn, !isDead.isOn {
      isDead.set(true)
      // Concurrent steps that have begun are completed, so that nothing changes while the successor runs.
      for _ in 0..<500 where underWay.withLock({ !$0.isEmpty }) { try? await Task.sleep(for: .milliseconds(1)) }
      reached.yield()
    }
    guard isDead.isOn else {
      if now.name.hasSuffix("-before") { underWay.withLock { _ = $0.insert(step) } }
      return
    }
    // Ignores cancellation, like a dead process.
    await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
  }
}

func eventually(_ predicate: () async throws -> Bool) async throws {
  for _ in 0..<2_000 {
    if try await predicate() { return }
    try await Task.sleep(for: .milliseconds(2))
  }
  Issue.record("never became true")
}

func flipBit(in path: FilePath) throws {
  var bytes = try SmallFile.read(path.string)
  bytes[bytes.count / 2] ^= 0x10
  chmod(path.string, 0o600)
  try SmallFile.replace(path, with: bytes, mode: 0o400)
}
