import Foundation
import LinuxSystem
import SystemPackage

/// Everything a sandbox takes on the host, counted for one server. Two equal censuses mean that nothing leaked.
struct Census: Equatable, CustomStringConvertible {
  var virtualMachines: Int
  var pagers: Int
  var namespaces: Int
  var links: Int
  var firewallLines: Int
  var controlGroups: Int
  var descriptors: Int
  var sandboxDirectories: Int
  var mounts: Int

  static func take(_ server: MartletServer) async throws -> Census {
    let data = server.directory.appending("data").string
    let commands = ProcessTable.pids().map { ProcessTable.arguments(of: $0) }.filter { $0.contains { $0.contains(data) } }
    let links = try await Tool.run("ip", ["-o", "link"]).checked().outputText
    let rules = try await Tool.run("nft", ["list", "ruleset"]).checked().outputText
    let groups = CgroupHierarchy.detect().map { hierarchy in
      ((try? Directories.names(in: hierarchy.roots["memory"] ?? "/nonexistent")) ?? []).filter { $0.hasPrefix("martlet") }
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
      sandboxDirectories: try Directories.names(in: FilePath(data).appending("instances")).count,
      mounts: try SmallFile.readText("/proc/self/mounts").split(separator: "\n").count)
  }

  /// Waits until the host looks as it did; the kernel takes namespaces apart a little later.
  /// - Parameter descriptorSlack: connections that the server keeps for the next request.
  func awaitSame(_ server: MartletServer, descriptorSlack: Int = 8) async throws {
    let end = ContinuousClock.now + .seconds(20)
    var now = try await Census.take(server)
    while !isSame(now, descriptorSlack) {
      guard ContinuousClock.now < end else { throw TestFailure("leaked: before \(self), after \(now)") }
      try await Task.sleep(for: .milliseconds(200))
      now = try await Census.take(server)
    }
  }

  private func isSame(_ other: Census, _ descriptorSlack: Int) -> Bool {
    var other = other
    if other.descriptors <= descriptors + descriptorSlack { other.descriptors = descriptors }
    return other == self
  }

  var description: String {
    "VMs \(virtualMachines), pagers \(pagers), namespaces \(namespaces), links \(links), firewall lines \(firewallLines), cgroups \(controlGroups), "
      + "descriptors \(descriptors), directories \(sandboxDirectories), mounts \(mounts)"
  }
}
