import Foundation
import LinuxSystem
import SystemPackage

/// Requests and observations for tests of pause, resume and snapshots.
extension MartletServer {
  func pause(_ id: String) async throws {
    let response = try await request(.POST, "/v1/sandboxes/\(id)/pause")
    guard response.status == 200 else { throw TestFailure("pause: \(response.status) \(response.text)") }
  }

  func resume(_ id: String) async throws {
    let response = try await request(.POST, "/v1/sandboxes/\(id)/resume")
    guard response.status == 200 else { throw TestFailure("resume: \(response.status) \(response.text)") }
  }

  func status(_ id: String) async throws -> String {
    try await info(id)["status"] as? String ?? "none"
  }

  /// Waits until no operation on the sandbox is in progress.
  func settled(_ id: String) async throws -> String {
    try await eventually("sandbox \(id) runs, is paused or is gone") {
      ["running", "paused", "stopped", "error", "none"].contains(try await self.status(id))
    }
    return try await status(id)
  }

  /// Ids of sandboxes in one state.
  func sandboxes(_ status: String) async throws -> [String] {
    struct Sandbox: Decodable { let id: String }
    return try JSONDecoder().decode(
      [Sandbox].self, from: try await request(.GET, "/v1/sandboxes?status=\(status)").body
    ).map(\.id)
  }

  /// Names of the team's snapshots.
  func snapshots() async throws -> [String] {
    struct Snapshot: Decodable { let name: String }
    return try JSONDecoder().decode([Snapshot].self, from: try await request(.GET, "/v1/snapshots?type=snapshot").body)
      .map(\.name)
  }

  // MARK: - On the host

  var hasEnded: Bool { RunningProcess.hasEnded(pid) }

  /// Pids of its VMMs.
  var machines: [Int32] {
    RunningProcess.all.filter { process in
      process.arguments.first?.contains("qemu") == true && openFiles(of: process.pid).contains { $0.hasPrefix(data) }
    }.map(\.pid).sorted()
  }
  var pagers: [Int32] { processes { $0.contains("pager") } }

  private var data: String { directory.appending("data").string }

  /// Names of the files that a process has open. No argument of a VMM names a file of the sandbox.
  private func openFiles(of pid: Int32) -> [String] {
    ((try? Directories.names(in: FilePath("/proc/\(pid)/fd"))) ?? []).compactMap {
      try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\($0)")
    }
  }

  private func processes(_ isOne: ([String]) -> Bool) -> [Int32] {
    RunningProcess.all.filter { process in
      isOne(process.arguments) && process.arguments.contains { $0.contains(data) }
    }.map(\.pid).sorted()
  }

  /// Names in a directory of the snapshot store: `generations`, `drafts`, `trash`.
  func stored(_ kind: String) -> Set<String> {
    Set((try? Directories.names(in: directory.appending("data/snapshots").appending(kind))) ?? [])
  }
}
