package import Foundation
package import HostAPI
package import Model

extension SimulatedHost {
  /// Sets the state of a sandbox; nil removes it.
  package func set(_ id: SandboxID, status: SandboxStatus?, reason: String? = nil, isAutoPaused: Bool = false) {
    guard let status else { return removeSandbox(id) }
    var sandbox = sandboxes[id] ?? HostSandbox(id: id, status: status, vcpus: 1, memoryMiB: 512, diskSizeMiB: 5120)
    sandbox.status = status
    sandbox.reason = reason
    sandbox.isAutoPaused = isAutoPaused
    sandboxes[id] = sandbox
    if status == .paused, generations[id] == nil { generations[id] = [files.removeValue(forKey: id) ?? [:]] }
    if status == .running { slots.take(id) } else if slots.taken[id] != nil { slots.release(id) }
  }

  package func setActivity(_ id: SandboxID, _ date: Date) { sandboxes[id]?.lastActiveAt = date }

  /// Simulates that a sandbox's idle time-out has passed: pauses it if it runs.
  package func expire(_ id: SandboxID) async {
    await begin(id)
    defer { end(id) }
    guard sandboxes[id]?.status == .running else { return }
    _ = try? await pause(id, isAutoPaused: true)
  }

  func running(_ id: SandboxID) throws -> HostSandbox {
    guard let sandbox = sandboxes[id] else { throw MartletError.sandboxNotFound(id) }
    guard sandbox.status == .running else { throw MartletError.invalidState(id, is: sandbox.status, needs: "running") }
    return sandbox
  }

  // MARK: - Create, query, destroy

  package func createSandbox(_ spec: SandboxSpec) async throws -> HostSandbox {
    try await gate(.create)
    guard sandboxes[spec.id] == nil else { throw MartletError(.alreadyExists, "sandbox \(spec.id) exists") }
    if let snapshot = snapshots[SnapshotKey(spec.template, spec.teamID)]
      ?? snapshots[SnapshotKey(spec.template, .platform)]
    {
      return start(spec, snapshot.template.shape, snapshot.files, ["restore", "guest"])
    }
    guard templates.contains(where: { $0.name == spec.template }) else {
      throw MartletError(.notFound, "template \(spec.template) does not exist")
    }
    return start(spec, nil, [:], ["network", "disk", "boot", "guest"])
  }

  func start(_ spec: SandboxSpec, _ shape: SandboxShape?, _ content: Files, _ phases: [String]) -> HostSandbox {
    let sandbox = HostSandbox(
      id: spec.id, status: .running, vcpus: shape?.vcpus ?? spec.vcpus, memoryMiB: shape?.memoryMiB ?? spec.memoryMiB,
      diskSizeMiB: shape?.diskSizeMiB ?? spec.diskSizeMiB, guestIP: "169.254.0.21", hostIP: "10.11.0.2",
      isolation: Isolation(vmm: "simulated", accelerator: "none"), startedAt: Date(), timings: Self.timings(phases))
    sandboxes[spec.id] = sandbox
    specs[spec.id] = spec
    if !content.isEmpty { files[spec.id] = content }
    timeouts[spec.id] = spec.timeoutSeconds
    slots.take(spec.id)
    return sandbox
  }

  package func destroySandbox(_ id: SandboxID) async throws {
    destroyCalls += 1
    try await gate(.destroy)
    removeSandbox(id)
  }

  private func removeSandbox(_ id: SandboxID) {
    sandboxes[id] = nil
    specs[id] = nil
    quarantinedSandboxes[id] = nil
    generations[id] = nil
    timeouts[id] = nil
    files[id] = nil
    if slots.taken[id] != nil { slots.release(id) }
    for process in processes.removeValue(forKey: id) ?? [] { process.receive(signal: 9) }
  }

  package func listSandboxes() async throws -> [HostSandbox] {
    try await gate(.list)
    return sandboxes.values.filter { !unlisted.contains($0.id) && quarantinedSandboxes[$0.id] == nil }
  }

  package func sandbox(_ id: SandboxID) async throws -> HostSandbox {
    try await gate(.look)
    guard let sandbox = sandboxes[id] else { throw MartletError.sandboxNotFound(id) }
    return sandbox
  }

  package func metrics(of id: SandboxID) async throws -> GuestMetrics {
    _ = try running(id)
    return GuestMetrics(
      timestamp: Date(), cpuPercent: 12.5, memoryBytes: 1 << 26, memoryTotalBytes: 1 << 29, diskBytes: 1 << 20,
      diskTotalBytes: 1 << 32)
  }

  // MARK: - Idle time

  package func pingSandbox(_ id: SandboxID) async throws {
    try await gate(.ping)
    _ = try running(id)
    sandboxes[id]?.lastActiveAt = Date()
  }

  package func setTimeout(_ seconds: Int, of id: SandboxID) async throws {
    try await gate(.timeout)
    _ = try running(id)
    timeouts[id] = seconds
  }

  // MARK: - Pause and resume

  package func pauseSandbox(_ id: SandboxID) async throws -> HostSandbox {
    await begin(id)
    defer { end(id) }
    if let sandbox = sandboxes[id], sandbox.status == .paused { return sandbox }
    _ = try running(id)
    let paused = try await pause(id, isAutoPaused: false)
    try throwIfResponseIsLost(.pause)
    return paused
  }

  private func pause(_ id: SandboxID, isAutoPaused: Bool) async throws -> HostSandbox {
    sandboxes[id]?.status = .pausing
    do {
      try await gate(.pause)
    } catch {
      if losesInstances {
        set(id, status: .error, reason: "the virtual machine ended")
      } else {
        revert(id, from: .pausing, to: .running)
      }
      throw error
    }
    await yield()
    guard var sandbox = sandboxes[id], sandbox.status == .pausing else { throw MartletError.sandboxNotFound(id) }
    generations[id] = Array(((generations[id] ?? []) + [files.removeValue(forKey: id) ?? [:]]).suffix(2))
    slots.release(id)
    sandbox.status = .paused
    sandbox.isAutoPaused = isAutoPaused
    sandbox.hostIP = nil
    sandbox.timings = Self.timings(["freeze", "save_memory", "release"])
    sandboxes[id] = sandbox
    return sandbox
  }

  package func resumeSandbox(_ id: SandboxID, _ options: ResumeOptions) async throws -> HostSandbox {
    await begin(id)
    defer { end(id) }
    guard let before = sandboxes[id] else { throw MartletError.sandboxNotFound(id) }
    if before.status == .running { return before }
    guard before.status == .paused else { throw MartletError.invalidState(id, is: before.status, needs: "paused") }
    let saved = generations[id] ?? []
    guard let content = options.usesPreviousGeneration ? saved.dropLast().last : saved.last else {
      throw MartletError(.notFound, "sandbox \(id) has no such generation")
    }
    let resumed = try await resume(before, content, options.timeoutSeconds)
    try throwIfResponseIsLost(.resume)
    return resumed
  }

  private func resume(_ before: HostSandbox, _ content: Files, _ timeout: Int) async throws -> HostSandbox {
    let id = before.id
    sandboxes[id]?.status = .resuming
    do {
      try await gate(.resume)
    } catch {
      revert(id, from: .resuming, to: .paused)
      throw error
    }
    await yield()
    guard var sandbox = sandboxes[id], sandbox.status == .resuming else { throw MartletError.sandboxNotFound(id) }
    files[id] = content
    timeouts[id] = timeout
    slots.take(id)
    sandbox.status = .running
    sandbox.isAutoPaused = false
    sandbox.hostIP = "10.11.0.2"
    sandbox.timings = Self.timings(["network", "restore", "guest"])
    sandboxes[id] = sandbox
    return sandbox
  }

  /// Reverts a failed change, unless the sandbox was destroyed meanwhile.
  private func revert(_ id: SandboxID, from status: SandboxStatus, to before: SandboxStatus) {
    if sandboxes[id]?.status == status { sandboxes[id]?.status = before }
  }

  static func timings(_ phases: [String]) -> [PhaseTiming] {
    phases.enumerated().map { PhaseTiming(phase: $1, milliseconds: Double($0 + 1)) }
  }
}
