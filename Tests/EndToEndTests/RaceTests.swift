import Foundation
import LinuxSystem
import NIOCore
import Testing

/// Runs pause, auto-pause, resume, snapshot, fork, commands and destroy concurrently on real sandboxes, in an order
/// that depends on a seed.
///
/// One interleaving is one such order on one sandbox; its outcome is checked before the next begins. Several sandboxes
/// run interleavings concurrently.
@Suite(.serialized) struct RaceTests {
  private static let environment = ProcessInfo.processInfo.environment
  /// `MARTLET_RACE_ROUNDS=1000` for a long run.
  private static let interleavings = environment["MARTLET_RACE_ROUNDS"].flatMap(Int.init) ?? 200
  private static let seed = environment["MARTLET_RACE_SEED"].flatMap(UInt64.init) ?? 20_261_121
  private static let lanes = 4

  private enum Action: CaseIterable {
    case pause, resume, snapshot, fork, exec, destroy
  }

  private struct Step: CustomStringConvertible {
    let action: Action
    let delay: Duration

    var description: String { "\(action) after \(delay)" }
  }

  /// One sandbox and the expected content of its files.
  private struct Subject {
    let lane: Int
    let id: String
    var content = 0
  }

  @Test(
    "after races a sandbox is running, paused or destroyed, and no acknowledged write is lost"
  )
  func races() async throws {
    let server = try await MartletServer.start()
    let empty = try await Census.take(server)
    var generator = Generator(state: Self.seed)
    var subjects: [Subject] = []
    for lane in 0..<Self.lanes { subjects.append(try await begin(server, lane)) }
    for round in 0..<((Self.interleavings + Self.lanes - 1) / Self.lanes) {
      let isIdle = round % 10 == 9
      let orders = subjects.map { _ in Self.steps(isIdle: isIdle, &generator) }
      subjects = try await withThrowingTaskGroup(of: Subject.self) { group in
        for (subject, steps) in zip(subjects, orders) {
          group.addTask { try await self.interleave(server, subject, steps, isIdle: isIdle, round) }
        }
        return try await group.reduce(into: []) { $0.append($1) }.sorted { $0.lane < $1.lane }
      }
      try await eventually("one VMM for each sandbox after round \(round) of seed \(Self.seed)") {
        server.machines.count == Self.lanes && server.pagers.count <= Self.lanes
      }
    }
    try await server.cli("kill", "--all").expectSuccess()
    try await empty.awaitSame(server, descriptorSlack: 64)
    try await eventually("only the template's snapshot is left") { server.stored("generations").count == 1 }
    try await server.stop()
  }

  /// - Returns: the sandbox for the next round.
  private func interleave(
    _ server: MartletServer, _ subject: Subject, _ steps: [Step], isIdle: Bool, _ round: Int
  ) async throws -> Subject {
    do {
      let responses = try await race(server, subject, steps, isIdle: isIdle)
      return try await judge(server, subject, responses)
    } catch {
      throw TestFailure("seed \(Self.seed), round \(round), lane \(subject.lane), \(steps): \(error)")
    }
  }

  private static func steps(isIdle: Bool, _ generator: inout Generator) -> [Step] {
    (0..<Int.random(in: 2...4, using: &generator)).map { _ in
      // The idle time-out passes within three seconds; the other operations start within the duration of a pause or
      // resume.
      let delay = Int.random(in: isIdle ? 800...2_400 : 0...300, using: &generator)
      // A destroy ends the round, so it is less frequent than the others.
      let action = Action.allCases.randomElement(using: &generator) ?? .pause
      let isRare = action == .destroy && Int.random(in: 0..<3, using: &generator) > 0
      return Step(action: isRare ? .pause : action, delay: .milliseconds(delay))
    }
  }

  private func begin(_ server: MartletServer, _ lane: Int) async throws -> Subject {
    var subject = Subject(lane: lane, id: try await server.createSandbox("--memory", "256"))
    try await write(server, &subject)
    return subject
  }

  private func write(_ server: MartletServer, _ subject: inout Subject) async throws {
    subject.content += 1
    let response = try await exec(
      server, subject.id, "echo \(subject.content) > /dev/shm/kept; echo \(subject.content) > /var/tmp/kept")
    guard response.status == 200, response.json["exit_code"] as? Int == 0 else {
      throw TestFailure("not written: \(response.text)")
    }
  }

  /// Uses HTTP directly, because starting the CLI would take most of the time.
  private func exec(_ server: MartletServer, _ id: String, _ script: String) async throws -> MartletServer.Response {
    let body = #"{"cmd":"sh","args":["-c","\#(script)"]}"#
    return try await server.request(.POST, "/v1/sandboxes/\(id)/exec", body: body)
  }

  /// Called when the sandbox, or a copy with its time-out, runs.
  private func wake(_ server: MartletServer, _ id: String) async throws {
    let sandbox = "/v1/sandboxes/\(id)"
    try await eventually("it runs") {
      guard try await server.settled(id) == "running" else {
        _ = try await server.request(.POST, "\(sandbox)/resume")
        return false
      }
      // The list may not show yet that it was paused.
      let kept = try await server.request(.POST, "\(sandbox)/timeout", body: #"{"timeout_sec":0}"#)
      let pinged = try await server.request(.POST, "\(sandbox)/ping")
      return kept.status < 300 && pinged.status < 300
    }
  }

  private func expectContent(_ server: MartletServer, _ id: String, _ content: Int) async throws {
    let response = try await exec(server, id, "cat /dev/shm/kept /var/tmp/kept")
    guard response.status == 200, response.json["stdout"] as? String == "\(content)\n\(content)\n" else {
      throw TestFailure("\(id) holds \(response.text), not \(content)")
    }
  }

  // MARK: - One round

  private func race(
    _ server: MartletServer, _ subject: Subject, _ steps: [Step], isIdle: Bool
  ) async throws -> [(Action, MartletServer.Response)] {
    let id = subject.id
    if isIdle { _ = try await server.request(.POST, "/v1/sandboxes/\(id)/timeout", body: #"{"timeout_sec":1}"#) }
    return try await withThrowingTaskGroup(of: (Action, MartletServer.Response).self) { group in
      for (index, step) in steps.enumerated() {
        group.addTask {
          try await Task.sleep(for: step.delay)
          return (step.action, try await self.perform(step.action, server, id, "race-\(subject.lane)-\(index)"))
        }
      }
      var responses: [(Action, MartletServer.Response)] = []
      for try await response in group { responses.append(response) }
      return responses
    }
  }

  private func perform(
    _ action: Action, _ server: MartletServer, _ id: String, _ name: String
  ) async throws -> MartletServer.Response {
    let sandbox = "/v1/sandboxes/\(id)"
    return switch action {
    case .pause: try await server.request(.POST, "\(sandbox)/pause")
    case .resume: try await server.request(.POST, "\(sandbox)/resume")
    case .snapshot:
      try await server.request(.POST, "/v1/snapshots", body: #"{"sandbox_id":"\#(id)","name":"\#(name)"}"#)
    case .fork: try await server.request(.POST, "\(sandbox)/fork", body: #"{"count":1}"#)
    case .exec: try await exec(server, id, "cat /dev/shm/kept")
    case .destroy: try await server.request(.DELETE, sandbox)
    }
  }

  // MARK: - Checks

  /// - Returns: the sandbox for the next round.
  private func judge(
    _ server: MartletServer, _ subject: Subject, _ responses: [(action: Action, response: MartletServer.Response)]
  ) async throws -> Subject {
    for (action, response) in responses {
      // A late operation gets `invalid_state` or `not_found`, never an internal error. A command whose guest was paused
      // or destroyed meanwhile gets `agent_error`.
      let refusals = action == .exec ? [404, 409, 499, 502] : [404, 409, 499]
      guard response.status < 300 || refusals.contains(response.status) else {
        throw TestFailure("\(action): \(response.status) \(response.text)")
      }
    }
    try await judgeCopies(server, subject, responses)
    let isDestroyed = responses.contains { $0.action == .destroy && $0.response.status == 204 }
    let status = try await server.settled(subject.id)
    guard !isDestroyed else {
      guard ["stopped", "none"].contains(status) else { throw TestFailure("destroyed, and yet \(status)") }
      return try await begin(server, subject.lane)
    }
    guard ["running", "paused"].contains(status) else {
      throw TestFailure("it is \(status): \(try await server.info(subject.id))")
    }
    try await wake(server, subject.id)
    var subject = subject
    try await expectContent(server, subject.id, subject.content)
    try await write(server, &subject)
    return subject
  }

  /// Checks that every acknowledged snapshot exists and is complete.
  private func judgeCopies(
    _ server: MartletServer, _ subject: Subject, _ responses: [(action: Action, response: MartletServer.Response)]
  ) async throws {
    struct Sandbox: Decodable { let id: String }
    var copies: [String] = []
    for (action, response) in responses where response.status == 201 {
      switch action {
      case .fork: copies += try JSONDecoder().decode([Sandbox].self, from: response.body).map(\.id)
      case .snapshot:
        guard let name = response.json["name"] as? String else { throw TestFailure("no name: \(response.text)") }
        let copy = try await server.request(.POST, "/v1/sandboxes", body: #"{"template":"\#(name)"}"#)
        guard copy.status == 201, let id = copy.json["id"] as? String else {
          throw TestFailure("no copy: \(copy.status) \(copy.text)")
        }
        copies.append(id)
        guard let path = name.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed),
          try await server.request(.DELETE, "/v1/snapshots/\(path)").status == 204
        else { throw TestFailure("the snapshot \(name) was not deleted") }
      default: break
      }
    }
    for copy in copies {
      try await wake(server, copy)
      try await expectContent(server, copy, subject.content)
    }
    for copy in copies {
      let response = try await server.request(.DELETE, "/v1/sandboxes/\(copy)")
      guard response.status == 204 else { throw TestFailure("not destroyed: \(response.status) \(response.text)") }
    }
  }
}

/// A generator that returns the same numbers for the same seed. Source: SplitMix64 (Steele, Lea, Flood, 2014).
private struct Generator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
