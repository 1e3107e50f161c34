import Concurrency
import Foundation
import HostAPI
package import Model
import Persistence

extension SandboxService {
  /// Time limit of a fork: the memory is saved once, then each copy is restored.
  static let forkDeadline: Duration = .seconds(600)

  /// Forks a running or paused sandbox: creates copies with its memory and processes, each an independent sandbox.
  ///
  /// Copies have the template name, shape, environment, metadata and time-out of the original. A copy that fails has
  /// the state `error`.
  /// - Returns: the running copies.
  /// - Throws: `invalid_request`, `not_found`, `invalid_state`; the first copy's error when all copies failed.
  package func fork(_ id: SandboxID, count: Int, for caller: Caller) async throws -> [SandboxResult] {
    try await metrics.counting(.fork) {
      guard Limits.forkCount.contains(count) else {
        throw MartletError(
          .invalidRequest, "count must be between \(Limits.forkCount.lowerBound) and \(Limits.forkCount.upperBound)")
      }
      let source = try await sandbox(id, for: caller)
      guard source.status == .running || source.status == .paused else {
        throw MartletError.invalidState(id, is: source.status, needs: "running or paused")
      }
      let host = try await host(of: source)
      let copies = (0..<count).map { _ in Self.copy(of: source, at: now) }
      return try await work.run(for: [.sandbox(id)] + copies.map { .sandbox($0.id) }) {
        try await fork(source, into: copies, on: host, for: caller)
      }
    }
  }

  private static func copy(of source: SandboxRecord, at time: Date) -> SandboxRecord {
    var spec = source.spec
    spec.id = SandboxID()
    return SandboxRecord(
      spec: spec, status: .starting, facts: SandboxFacts(hostID: source.facts.hostID), autoResumes: source.autoResumes,
      createdAt: time)
  }

  private func fork(
    _ source: SandboxRecord, into copies: [SandboxRecord], on host: any HostClient, for caller: Caller
  ) async throws -> [SandboxResult] {
    let begin = ContinuousClock.now
    try await quotas.admit(
      copies.map { ($0, caller.audit("sandbox.create", $0.id, outcome: "accepted", at: now)) })
    audit.add(caller.audit("sandbox.fork", source.id, outcome: "accepted", at: now))
    let results = await makeCopies(of: source.id, copies.map(\.spec), on: host)
    var forked: [SandboxResult] = []
    var firstError: (any Error)?
    for (copy, result) in zip(copies, results) {
      do {
        forked.append(
          try await mappingCreateErrors(of: copy.id) { try await record(copy, result, on: host, for: caller, begin) })
      } catch {
        firstError = firstError ?? error
      }
    }
    let failure = firstError.map { MartletError.wrapping($0) }
    audit.add(caller.audit("sandbox.fork", source.id, outcome: failure?.code.rawValue ?? "ok", at: now))
    if forked.isEmpty, let failure { throw failure }
    return forked
  }

  /// - Returns: one result per spec, regardless of how many results the host returned.
  private func makeCopies(
    of id: SandboxID, _ specs: [SandboxSpec], on host: any HostClient
  ) async -> [Result<HostSandbox, MartletError>] {
    do {
      let timeoutError = MartletError(.deadlineExceeded, "the copies were not created in time")
      let results = try await waitAtMost(Self.forkDeadline, throwing: timeoutError) {
        try await host.forkSandbox(id, into: specs)
      }
      return specs.indices.map { index in
        guard results.indices.contains(index) else {
          return .failure(MartletError(.agentError, "the host returned no result for this copy"))
        }
        return results[index]
      }
    } catch {
      let failure = MartletError.wrapping(error)
      return specs.map { _ in .failure(failure) }
    }
  }

  private func record(
    _ copy: SandboxRecord, _ result: Result<HostSandbox, MartletError>, on host: any HostClient, for caller: Caller,
    _ begin: ContinuousClock.Instant
  ) async throws -> SandboxResult {
    switch result {
    case .success(let made): try await creationSucceeded(.fork, copy, made, on: host, for: caller, begin)
    case .failure(let failure): throw await creationFailed(copy.spec, on: host, for: caller, failure)
    }
  }
}
