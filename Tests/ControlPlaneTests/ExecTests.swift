import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

@Suite(.serialized, .bothLinks) struct ExecTests {
  private func exec(_ plane: Plane, _ command: String, _ arguments: [String] = []) async throws -> ExecResult {
    let record = try await plane.create()
    return try await plane.service.exec(
      ProcessRequest(command: command, arguments: arguments, timeout: .seconds(5)), in: record.id, for: plane.caller)
  }

  @Test("output and exit code are returned", arguments: SQLDialect.allCases)
  func output(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      #expect(try await exec(plane, "echo", ["a", "b"]).standardOutput == ByteBuffer(string: "a b\n"))
      #expect(try await exec(plane, "warn", ["x"]).standardError == ByteBuffer(string: "x\n"))
      #expect(try await exec(plane, "exit", ["7"]).exitCode == 7)
    }
  }

  @Test("all 256 byte values are returned unchanged", arguments: SQLDialect.allCases)
  func bytes(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      #expect(try await exec(plane, "bytes").standardOutput == ByteBuffer(bytes: Array(UInt8.min...UInt8.max)))
    }
  }

  @Test(
    "output beyond the bound is an error that names the remedy, and ends the process", arguments: SQLDialect.allCases)
  func tooLarge(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      do {
        _ = try await plane.service.exec(ProcessRequest(command: "flood"), in: record.id, for: plane.caller)
        Issue.record("the flood was accepted")
      } catch let error as MartletError {
        #expect(error.code == .tooLarge)
        #expect(error.message.contains("exec/stream"))
      }
      #expect(await plane.host.processes[record.id]?.allSatisfy { !$0.isAlive } == true)
    }
  }

  @Test("a time-out has its own error", arguments: SQLDialect.allCases)
  func timeout(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      #expect(await code { _ = try await exec(plane, "late") } == .deadlineExceeded)
    }
  }

  @Test("a broken stream is an error, not a short output", arguments: SQLDialect.allCases)
  func broken(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await #expect(throws: (any Error).self) { try await exec(plane, "break") }
    }
  }

  @Test("a cancelled exec ends the guest process", arguments: SQLDialect.allCases)
  func cancelled(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      let task = Task {
        try await plane.service.exec(ProcessRequest(command: "sleep"), in: record.id, for: plane.caller)
      }
      while await plane.host.processes[record.id] == nil { try await Task.sleep(for: .milliseconds(2)) }
      task.cancel()
      await #expect(throws: (any Error).self) { try await task.value }
      // A remote host learns of the cancellation a moment later.
      #expect(try await eventually { await plane.host.processes[record.id]?.allSatisfy { !$0.isAlive } == true })
    }
  }

  @Test(
    "hostile requests are refused",
    arguments: [
      ProcessRequest(command: ""), ProcessRequest(command: "a\0b"), ProcessRequest(command: "a", arguments: ["\0"]),
      ProcessRequest(command: "a", environment: ["A=B": "x"]), ProcessRequest(command: "a", workingDirectory: ""),
      ProcessRequest(command: "a", workingDirectory: String(repeating: "x", count: 5_000)),
      ProcessRequest(command: "a", user: ""),
      ProcessRequest(command: "a", terminal: TerminalSize(columns: 0, rows: 24)), ProcessRequest(command: "a", tag: ""),
      ProcessRequest(command: "a", arguments: Array(repeating: "x", count: 5_000)),
      ProcessRequest(command: "a", arguments: [String(repeating: "x", count: 1_048_576)]),
    ])
  func hostile(request: ProcessRequest) async throws {
    try await withPlane { plane async throws -> Void in
      let record = try await plane.create()
      #expect(
        await code { _ = try await plane.service.exec(request, in: record.id, for: plane.caller) } == .invalidRequest)
    }
  }

  @Test(
    "a sandbox that does not run refuses with invalid_state",
    arguments: [SandboxStatus.pending, .paused, .stopped, .error],
    SQLDialect.allCases)
  func wrongState(status: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.leaveRow(status)
      #expect(
        await code {
          _ = try await plane.service.exec(ProcessRequest(command: "echo"), in: record.id, for: plane.caller)
        } == .invalidState)
    }
  }
}

@Suite struct OutputBudgetTests {
  @Test("short outputs are always permitted; long outputs share a budget, which their release returns")
  func budget() throws {
    let budget = OutputBudget(bytes: 100_000)
    do {
      let (first, second) = (budget.reservation(), budget.reservation())
      try first.grow(by: OutputBudget.freeBytes)
      #expect(budget.reservedBytes == 0)
      try first.grow(by: 90_000)
      #expect(budget.reservedBytes == 90_000)
      try second.grow(by: OutputBudget.freeBytes)
      let error = #expect(throws: MartletError.self) { try second.grow(by: 20_000) }
      #expect(error?.code == .rateLimited)
      try second.grow(by: 10_000)
      #expect(budget.reservedBytes == 100_000)
    }
    #expect(budget.reservedBytes == 0)
  }
}
