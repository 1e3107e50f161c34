import Concurrency
import Foundation
import HostAPI
import Logging
import Model

extension SandboxController {
  var isQuarantined: Bool { entry.quarantinedAt != nil }

  /// Nil in quarantine: such a sandbox is in no list of those that tenants have.
  var listedReport: HostSandbox? { isQuarantined ? nil : report }

  var quarantinedItem: QuarantinedItem? {
    get async {
      guard let quarantinedAt = entry.quarantinedAt else { return nil }
      let sizes = await context.generations.allocatedBytes(of: Array(entry.generations.prefix(1)))
      let createdAt = entry.createdAt ?? entry.startedAt ?? quarantinedAt
      return QuarantinedItem(
        kind: .sandbox(spec: entry.spec, state: report), quarantinedAt: quarantinedAt, createdAt: createdAt,
        sizeBytes: sizes.first ?? 0)
    }
  }

  /// Sets the sandbox apart; durable when this returns. The host's maintenance pauses it.
  func quarantine() async throws {
    try await enqueue { try await self.setQuarantine(Date()) }.value
  }

  func release(to team: TeamID) async throws -> HostSandbox {
    try await enqueue { try await self.leaveQuarantine(to: team) }.value
  }

  private func setQuarantine(_ time: Date) async throws {
    guard entry.quarantinedAt == nil, lifecycle.state != .removed, lifecycle.state != .destroying else { return }
    var changed = entry
    changed.quarantinedAt = time
    let durable = changed
    try await saving(.commit) { try await self.context.journal.updateDurably(durable) }
    entry.quarantinedAt = time
    context.logger.warning("sandbox quarantined", metadata: ["team.id": "\(entry.spec.teamID)"])
  }

  private func leaveQuarantine(to team: TeamID) async throws -> HostSandbox {
    guard lifecycle.state != .removed, lifecycle.state != .destroying else { throw MartletError.sandboxNotFound(id) }
    guard isQuarantined || entry.spec.teamID != team else { return report }
    guard isQuarantined else {
      throw MartletError(.invalidState, "sandbox \(id) is not in quarantine, and belongs to another team")
    }
    var changed = entry
    changed.quarantinedAt = nil
    changed.spec.teamID = team
    let durable = changed
    try await saving(.commit) { try await self.context.journal.updateDurably(durable) }
    entry.quarantinedAt = nil
    entry.spec.teamID = team
    activity.touch()
    context.logger.info("sandbox released from quarantine", metadata: ["team.id": "\(team)"])
    return report
  }

  /// Pauses a sandbox that came into quarantine while it ran. It runs on when that fails, and the attempt is repeated.
  func pauseIfQuarantined() async {
    guard canPauseForQuarantine, !awaitsQuarantinePause, ContinuousClock.now >= nextQuarantinePause else { return }
    awaitsQuarantinePause = true
    defer { awaitsQuarantinePause = false }
    do {
      _ = try await context.quarantinePauses.withPermit { try await self.pauseForQuarantine() }
    } catch {
      nextQuarantinePause = .now + context.configuration.quarantineRetryInterval
      context.logger.warning("a quarantined sandbox was not paused", metadata: ["error": "\(error)"])
    }
  }

  private func pauseForQuarantine() async throws -> HostSandbox {
    try await perform {
      guard await self.canPauseForQuarantine else { return await self.report }
      return try await self.performPause(isAutomatic: false)
    }
  }

  private var canPauseForQuarantine: Bool { isQuarantined && lifecycle.state == .running }
}
