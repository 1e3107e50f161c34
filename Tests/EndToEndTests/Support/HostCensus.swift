import LinuxSystem
import SystemPackage

/// What there is on the host for Martlet as a whole, by name. Taken before a server starts and after it has stopped:
/// the difference is what it left.
struct HostCensus: Equatable, CustomStringConvertible {
  private var things: Set<String> = []

  static func take() async throws -> HostCensus {
    var census = HostCensus()
    let tables = try await Tool.run("nft", ["list", "tables"]).checked().outputText
    census.add("nftables", tables.split(separator: "\n").map(String.init))
    let links = try await Tool.run("ip", ["-o", "link"]).checked().outputText
    // "7: mv4@if2: <…": the index is never the same again.
    census.add(
      "link", links.split(separator: "\n").compactMap { $0.split(separator: " ").dropFirst().first.map(String.init) })
    census.add("claim", (try? Directories.names(in: "/run/martlet")) ?? [])
    census.add("namespace", (try? Directories.names(in: FilePath(NetworkNamespace.directory))) ?? [])
    for (controller, root) in CgroupHierarchy.detect()?.roots ?? [:] {
      census.add("\(controller) group", ((try? Directories.names(in: root)) ?? []).filter { $0.hasPrefix("martlet") })
    }
    census.add("process", serverProcesses())
    return census
  }

  /// Servers of these tests and the machines on their data directories.
  private static func serverProcesses() -> [String] {
    ProcessTable.pids().filter { pid in
      ProcessTable.arguments(of: pid).contains { $0.contains(MartletServer.directoryPrefix) }
    }.map(String.init)
  }

  /// Waits until nothing is there that was not; the kernel takes namespaces apart a little later. What an earlier
  /// server that was killed had left may be gone: a start cleans up.
  func awaitSame() async throws {
    let end = ContinuousClock.now + .seconds(20)
    var now = try await HostCensus.take()
    while !now.things.isSubset(of: things) {
      guard ContinuousClock.now < end else {
        throw TestFailure("left behind: \(now.things.subtracting(things).sorted())")
      }
      try await Task.sleep(for: .milliseconds(200))
      now = try await HostCensus.take()
    }
  }

  func without(process: String) -> HostCensus {
    var other = self
    other.things.remove("process \(process)")
    return other
  }

  private mutating func add(_ kind: String, _ names: [String]) {
    things.formUnion(names.map { "\(kind) \($0)" })
  }

  var description: String { things.sorted().joined(separator: ", ") }
}
