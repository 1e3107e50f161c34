import Foundation
import LinuxSystem
import SystemPackage

/// Counts all resources of a server's sandboxes on the host. Two equal censuses mean that nothing leaked.
struct Census: Equatable, CustomStringConvertible {
  var virtualMachines: Int
  var pagers: Int
  var namespaces: Int
  var links: Int
  var firewallLines: Int
  var controlGroups: Int
  var descriptors: Int
  /// Descriptors that are neither sockets nor databases. The server holds some per sandbox and a fixed number for
  /// itself.
  var ownDescriptors: Int
  /// Children of the server that have exited and were not waited for.
  var zombies: Int
  var sandboxDirectories: Int
  var mounts: Int

  static func take(_ server: MartletServer) async throws -> Census {
    let data = server.directory.appending("data").string
    let commands = ProcessTable.pids().map { ProcessTable.arguments(of: $0) }.filter {
      $0.contains { $0.contains(data) }
    }
    let links = try await Tool.run("ip", ["-o", "link"]).checked().outputText
    let rules = try await Tool.run("nft", ["list", "ruleset"]).checked().outputText
    let groups = CgroupHierarchy.detect().map { hierarchy in
      ((try? Directories.names(in: hierarchy.roots["memory"] ?? "/nonexistent")) ?? []).filter {
        $0.hasPrefix("martlet")
      }
      .flatMap { Cgroup.existingNames(in: hierarchy, parent: $0) }
    }
    return Census(
      virtualMachines: commands.count { $0.first?.contains("qemu") == true },
      pagers: commands.count { $0.contains("pager") },
      namespaces: try Directories.names(in: FilePath(NetworkNamespace.directory)).count,
      links: links.split(separator: "\n").count,
      firewallLines: rules.split(separator: "\n").count,
      controlGroups: groups?.count ?? 0,
      descriptors: try Directories.names(in: FilePath("/proc/\(server.pid)/fd")).count,
      ownDescriptors: ownDescriptors(of: server.pid),
      zombies: zombies(of: server.pid),
      sandboxDirectories: try Directories.names(in: FilePath(data).appending("instances")).count,
      mounts: try SmallFile.readText("/proc/self/mounts").split(separator: "\n").count)
  }

  private static func ownDescriptors(of pid: Int32) -> Int {
    let directory = "/proc/\(pid)/fd"
    return ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).count { name in
      let target = (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/\(name)")) ?? "socket:"
      return !target.hasPrefix("socket:") && !target.contains(".db")
    }
  }

  private static func zombies(of parent: Int32) -> Int {
    ProcessTable.pids().count { pid in
      // proc_pid_stat(5): state and parent follow the name, which may contain any character and ends at the last
      // parenthesis.
      let text = (try? SmallFile.readText("/proc/\(pid)/stat")) ?? ""
      let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
      return fields.count > 2 && fields[1] == "Z" && fields[2] == "\(parent)"
    }
  }

  /// Waits until the host's census equals this one; the kernel removes namespaces with a delay.
  /// - Parameters:
  ///   - descriptorSlack: connections that the server keeps for the next request.
  ///   - ownSlack: other descriptors that the server may have opened for itself; any number after a restart.
  func awaitSame(_ server: MartletServer, descriptorSlack: Int = 8, ownSlack: Int = .max) async throws {
    let end = ContinuousClock.now + .seconds(20)
    var now = try await Census.take(server)
    while !isSame(now, descriptorSlack, ownSlack) {
      guard ContinuousClock.now < end else { throw TestFailure("leaked: before \(self), after \(now)") }
      try await Task.sleep(for: .milliseconds(200))
      now = try await Census.take(server)
    }
  }

  private func isSame(_ other: Census, _ descriptorSlack: Int, _ ownSlack: Int) -> Bool {
    var other = other
    if other.ownDescriptors < ownDescriptors || other.ownDescriptors - ownDescriptors <= ownSlack {
      other.ownDescriptors = ownDescriptors
    }
    if other.descriptors <= descriptors + descriptorSlack { other.descriptors = descriptors }
    other.zombies = max(other.zombies, zombies)
    return other == self
  }

  var description: String {
    "VMs \(virtualMachines), pagers \(pagers), namespaces \(namespaces), links \(links), firewall lines "
      + "\(firewallLines), cgroups \(controlGroups), "
      + "descriptors \(descriptors) (\(ownDescriptors) own), zombies \(zombies), directories \(sandboxDirectories), "
      + "mounts \(mounts)"
  }
}
