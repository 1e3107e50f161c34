import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

@Suite(.serialized, .bothLinks) struct AutoResumeTests {
  @Test("every kind of request resumes a sandbox with auto_resume and is then served", arguments: SQLDialect.allCases)
  func resumes(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create { $0.autoResumes = true }.id
      await plane.host.put("/f", ByteBuffer(string: "x"), in: id)
      let service = plane.service
      let file = try GuestFile(path: "/f")
      let works: [() async throws -> Void] = [
        { _ = try await service.exec(ProcessRequest(command: "echo"), in: id, for: plane.caller) },
        { _ = try await service.startProcess(ProcessRequest(command: "sleep"), in: id, for: plane.caller) },
        { _ = try await service.listProcesses(in: id, for: plane.caller) },
        { _ = try await service.read(file, in: id, for: plane.caller) },
        { _ = try await service.fileTarget(in: id, for: plane.caller) },
        { _ = try await service.list(file, depth: 1, in: id, for: plane.caller) },
        { try await service.requireRunning(id, for: plane.caller) },
      ]
      for work in works {
        _ = try await service.pause(id, for: plane.caller)
        try await work()
        #expect(try await plane.status(id) == .running)
      }
    }
  }

  @Test("ping and metrics do not resume a sandbox", arguments: SQLDialect.allCases)
  func doesNotResume(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create { $0.autoResumes = true }.id
      _ = try await plane.service.pause(id, for: plane.caller)
      #expect(await code { try await plane.service.ping(id, for: plane.caller) } == .invalidState)
      #expect(await code { _ = try await plane.service.metrics(of: id, for: plane.caller) } == .invalidState)
      #expect(try await plane.status(id) == .paused)
    }
  }

  @Test("without auto_resume the error tells to resume the sandbox", arguments: SQLDialect.allCases)
  func refused(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      _ = try await plane.service.pause(id, for: plane.caller)
      do {
        _ = try await plane.service.exec(ProcessRequest(command: "echo"), in: id, for: plane.caller)
        Issue.record("a paused sandbox ran a command")
      } catch let error as MartletError {
        #expect(error.code == .invalidState)
        #expect(error.message.contains("resume it first"))
      }
      #expect(await plane.host.calls[.resume] == nil)
    }
  }

  @Test("the sandbox is resumed once for any number of waiting requests", arguments: SQLDialect.allCases)
  func singleFlight(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create { $0.autoResumes = true }.id
      _ = try await plane.service.pause(id, for: plane.caller)
      await plane.host.delay(.resume, by: .milliseconds(100))
      try await withThrowingTaskGroup(of: Int32.self) { group in
        for _ in 0..<30 {
          group.addTask {
            try await plane.service.exec(ProcessRequest(command: "echo"), in: id, for: plane.caller).exitCode
          }
        }
        for try await code in group { #expect(code == 0) }
      }
      #expect(await plane.host.calls[.resume] == 1)
    }
  }

  @Test(
    "a request during a pause or resume waits for its end", arguments: [true, false],
    SQLDialect.allCases)
  func waits(isPausing: Bool, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create { $0.autoResumes = true }.id
      if !isPausing { _ = try await plane.service.pause(id, for: plane.caller) }
      await plane.host.delay(isPausing ? .pause : .resume, by: .milliseconds(150))
      let change = Task {
        isPausing
          ? try await plane.service.pause(id, for: plane.caller) : try await plane.service.resume(id, for: plane.caller)
      }
      #expect(try await eventually { try await plane.status(id) == (isPausing ? .pausing : .resuming) })
      #expect(try await plane.service.exec(ProcessRequest(command: "echo"), in: id, for: plane.caller).exitCode == 0)
      _ = try await change.value
      #expect(await plane.host.calls[.resume] == 1)
    }
  }

  @Test(
    "a request is served although the idle time-out has paused the sandbox and the row does not say so yet",
    arguments: SQLDialect.allCases)
  func unnoticed(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create {
        $0.autoResumes = true
        $0.timeoutSeconds = 3
      }.id
      await plane.host.expire(id)
      #expect(try await plane.status(id) == .running)
      #expect(try await plane.service.exec(ProcessRequest(command: "echo"), in: id, for: plane.caller).exitCode == 0)
      #expect(try await plane.control.metrics.text().contains("operation=\"auto_pause\",outcome=\"ok\"} 1\n"))
    }
  }

  @Test(
    "a request during an auto-pause waits for its end with auto_resume, and is refused without",
    arguments: [true, false],
    SQLDialect.allCases)
  func autoPauseUnderWay(autoResumes: Bool, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create {
        $0.autoResumes = autoResumes
        $0.timeoutSeconds = 3
      }.id
      await plane.host.delay(.pause, by: .milliseconds(150))
      let pause = Task { await plane.host.expire(id) }
      #expect(try await eventually { await plane.host.sandboxes[id]?.status == .pausing })
      let outcome = await code {
        _ = try await plane.service.exec(ProcessRequest(command: "echo"), in: id, for: plane.caller)
      }
      #expect(outcome == (autoResumes ? nil : .invalidState))
      await pause.value
    }
  }

  @Test("a request restarts the idle timer of a sandbox that has one", arguments: SQLDialect.allCases)
  func restartsTimer(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let timed = try await plane.create { $0.timeoutSeconds = 3 }.id
      let untimed = try await plane.create().id
      _ = try await plane.service.listProcesses(in: timed, for: plane.caller)
      #expect(await plane.host.calls[.ping] == 1)
      _ = try await plane.service.listProcesses(in: untimed, for: plane.caller)
      #expect(await plane.host.calls[.ping] == 1)
    }
  }

  @Test(
    "a failed resume's error is the request's error, and the next request tries again",
    arguments: SQLDialect.allCases)
  func fails(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create { $0.autoResumes = true }.id
      _ = try await plane.service.pause(id, for: plane.caller)
      await plane.host.fail(.resume, with: MartletError(.snapshotDamaged, "the snapshot is damaged"))
      let work: () async throws -> Void = { _ = try await plane.service.listProcesses(in: id, for: plane.caller) }
      #expect(await code(work) == .snapshotDamaged)
      #expect(try await plane.status(id) == .paused)
      await plane.host.fail(.resume, with: nil)
      #expect(await code(work) == nil)
    }
  }

  @Test(
    "a finished sandbox is not resumed",
    arguments: [SandboxStatus.stopped, .error, .destroying, .missing, .starting], SQLDialect.allCases
  )
  func over(status: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.leaveRow(status) { $0.autoResumes = true }.id
      #expect(await code { _ = try await plane.service.listProcesses(in: id, for: plane.caller) } == .invalidState)
    }
  }

  @Test("destroying the sandbox ends the wait of requests", arguments: SQLDialect.allCases)
  func destroyedMeanwhile(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create { $0.autoResumes = true }.id
      _ = try await plane.service.pause(id, for: plane.caller)
      await plane.host.delay(.resume, by: .milliseconds(150))
      let work = Task { try await plane.service.listProcesses(in: id, for: plane.caller) }
      #expect(try await eventually { try await plane.status(id) == .resuming })
      try await plane.service.destroy(id, for: plane.caller)
      await #expect(throws: MartletError.self) { try await work.value }
      #expect(try await plane.status(id) == .stopped)
      #expect(await plane.host.sandboxes.isEmpty)
    }
  }
}
