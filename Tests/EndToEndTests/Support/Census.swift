import Foundation
import LinuxSystem
import SystemPackage
import TestSupport

/// Counts all resources of a server's sandboxes on the host. Two equal censuses mean that nothing leaked.
struct Census: Equatable, CustomStringConvertible {
  var virtualMachines: Int
  var pagers: Int
  var namespaces: Int
  var links: Int
  var firewallLines: Int
  var controlGroups: Int
  /// All that the server has open. Some of it is connections that it keeps for the next request, as many as requests
  /// came at once, so this is only bounded.
  var descriptors: Int
  /// Those that belong to one sandbox: handles of its processes, of its page faults, of its namespace, files of its run
  /// directory and of generations. Never kept for later, so this is compared exactly.
  var sandboxDescriptors: Int
  /// Those that are neither sockets nor databases: of each sandbox the server holds some, of itself always the same.
  var ownDescriptors: Int
  /// Children of the server that have exited and were not waited for.
  var zombies: Int
  var sandboxDirectories: Int
  var mounts: Int

  static func take(_ server: MartletServer) async throws -> Census {
    let data = server.directory.appending("data").string
    let commands = RunningProcess.all.map(\.arguments).filter { $0.contains { $0.contains(data) } }
    let links = try await Tool.run("ip", ["-o", "link"]).checked().outputText
    let rules = try await Tool.run("nft", ["list", "ruleset"]).checked().outputText
    let groups = try CgroupHierarchy.detect().map { hierarchy in
      try Directories.names(in: hierarchy.roots["memory"] ?? "/nonexistent").filter { $0.hasPrefix("martlet") }
        .flatMap { try Cgroup.existingNames(in: hierarchy, parent: $0) }
    }
    return Census(
      virtualMachines: commands.count { $0.first?.contains("qemu") == true },
      pagers: commands.count { $0.contains("pager") },
      namespaces: try Directories.names(in: FilePath(NetworkNamespace.directory)).count,
      links: links.split(separator: "\n").count,
      firewallLines: rules.split(separator: "\n").count,
      controlGroups: groups?.count ?? 0,
      descriptors: try Directories.names(in: FilePath("/proc/\(server.pid)/fd")).count,
      sandboxDescriptors: targets(of: server.pid).count { isOfSandbox($0, data: data) },
      ownDescriptors: targets(of: server.pid).count { !$0.hasPrefix("socket:") && !$0.contains(".db") },
      zombies: zombies(of: server.pid),
      sandboxDirectories: try Directories.names(in: FilePath(data).appending("instances")).count,
      mounts: try SmallFile.readText("/proc/self/mounts").split(separator: "\n").count)
  }

  /// What the descriptors of a process refer to; those that are closed meanwhile are left out.
  private static func targets(of pid: Int32) -> [String] {
    let directory = "/proc/\(pid)/fd"
    return ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).compactMap { name in
      try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/\(name)")
    }
  }

  private static func isOfSandbox(_ target: String, data: String) -> Bool {
    target.contains("pidfd") || target.contains("userfaultfd") || target.hasPrefix("/run/netns/")
      || target.hasPrefix("net:") || target.hasPrefix("mnt:") || target.contains("memfd:")
      || (target.hasPrefix("\(data)/instances/") || target.hasPrefix("\(data)/snapshots/"))
  }

  private static func zombies(of parent: Int32) -> Int {
    RunningProcess.all.count { process in
      // proc_pid_stat(5): state and parent follow the name, which may hold anything but ends with the last parenthesis.
      let text = (try? SmallFile.readText("/proc/\(process.pid)/stat")) ?? ""
      let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
      return fields.count > 2 && fields[1] == "Z" && fields[2] == "\(parent)"
    }
  }

  /// Waits until the host's census equals this one; the kernel removes namespaces with a delay.
  /// - Parameters:
  ///   - descriptorSlack: connections that the server keeps for the next request.
  ///   - ownSlack: other descriptors that the server may have opened for itself; any number after a restart.
  func awaitSame(_ server: MartletServer, descriptorSlack: Int = 8, ownSlack: Int = .max) async throws {
    var now = self
    let hasSettled = try await Patience.waiting(for: .seconds(20), every: .milliseconds(200)) {
      now = try await Census.take(server)
      return isSame(now, descriptorSlack, ownSlack)
    }
    guard hasSettled else {
      throw TestFailure("leaked: \(differences(now, descriptorSlack, ownSlack)); before \(self), after \(now)")
    }
  }

  /// Names of what has changed beyond its slack.
  private func differences(_ other: Census, _ descriptorSlack: Int, _ ownSlack: Int) -> String {
    let counts: [(String, Int, Int, slack: Int)] = [
      ("VMs", virtualMachines, other.virtualMachines, 0), ("pagers", pagers, other.pagers, 0),
      ("namespaces", namespaces, other.namespaces, 0), ("links", links, other.links, 0),
      ("firewall lines", firewallLines, other.firewallLines, 0), ("cgroups", controlGroups, other.controlGroups, 0),
      ("descriptors", descriptors, other.descriptors, descriptorSlack),
      ("descriptors of sandboxes", sandboxDescriptors, other.sandboxDescriptors, 0),
      ("own descriptors", ownDescriptors, other.ownDescriptors, ownSlack), ("zombies", zombies, other.zombies, 0),
      ("directories", sandboxDirectories, other.sandboxDirectories, 0), ("mounts", mounts, other.mounts, 0),
    ]
    return counts.filter { $0.1 != $0.2 && ($0.slack == 0 || $0.2 - $0.1 > $0.slack) }
      .map { "\($0.0) \($0.1) → \($0.2)" }.joined(separator: ", ")
  }

  private func isSame(_ other: Census, _ descriptorSlack: Int, _ ownSlack: Int) -> Bool {
    var other = other
    if other.ownDescriptors < ownDescriptors || other.ownDescriptors - ownDescriptors <= ownSlack {
      other.ownDescriptors = ownDescriptors
    }
    if other.descriptors <= descriptors + descriptorSlack { other.descriptors = descriptors }
    // A server that adopted a sandbox may hold less of it than the one that started it, never more.
    other.sandboxDescriptors = max(other.sandboxDescriptors, sandboxDescriptors)
    other.zombies = max(other.zombies, zombies)
    return other == self
  }

  var description: String {
    "VMs \(virtualMachines), pagers \(pagers), namespaces \(namespaces), links \(links), firewall lines "
      + "\(firewallLines), cgroups \(controlGroups), "
      + "descriptors \(descriptors) (\(sandboxDescriptors) of sandboxes, \(ownDescriptors) own), "
      + "zombies \(zombies), directories \(sandboxDirectories), mounts \(mounts)"
  }
}
