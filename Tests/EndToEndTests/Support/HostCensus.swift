import LinuxSystem
import SystemPackage
import TestSupport

/// Names of all resources of Martlet on the host. The difference of the censuses before a server's start and after its
/// stop is what the server left.
struct HostCensus: Equatable, CustomStringConvertible {
  private var things: Set<String> = []

  static func take() async throws -> HostCensus {
    var census = HostCensus()
    let tables = try await Tool.run("nft", ["list", "tables"]).checked().outputText
    census.add("nftables", tables.split(separator: "\n").map(String.init))
    let links = try await Tool.run("ip", ["-o", "link"]).checked().outputText
    // "7: mv4@if2: <…": the index changes at each creation.
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

  /// Processes of these tests' servers and of their VMMs.
  private static func serverProcesses() -> [String] {
    RunningProcess.all.filter { process in
      process.arguments.contains { $0.contains(MartletServer.directoryPrefix) }
    }.map { String($0.pid) }
  }

  /// Waits until the host has no resources in addition to this census; the kernel removes namespaces with a delay.
  /// Resources that an earlier, killed server left may be missing, because a start removes them.
  func awaitSame() async throws {
    var left: Set<String> = []
    let isSame = try await Patience.waiting(for: .seconds(20), every: .milliseconds(200)) {
      left = try await HostCensus.take().things.subtracting(things)
      return left.isEmpty
    }
    guard isSame else { throw TestFailure("left behind: \(left.sorted())") }
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
