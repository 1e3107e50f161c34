import CommandLine
import HostAgent
import Logging
import Model
import SandboxNetwork
import SystemPackage

/// What stands in the way of sandbox networks on this machine, and the range that sandboxes get.
enum NetworkCheck {
  private static let name = "network"

  static func run(_ options: DoctorOptions) async -> [DoctorCheck] {
    do {
      let directory = FilePath(options.dataDirectory)
      // Only root may read the numbers of other servers.
      let number = (try? InstanceClaim.expectedNumber(dataDirectory: directory)) ?? 0
      let range = try options.networkRange ?? .standard(agent: number)
      let logger = Logger(label: "doctor") { _ in SwiftLogNoOpLogHandler() }
      let networks = SandboxNetworks(configuration: try .of(agent: number, range), logger: logger)
      return checks(range, await networks.diagnose())
    } catch {
      return [DoctorCheck(name, .missing, MartletError.wrapping(error).message)]
    }
  }

  static func checks(_ range: SandboxNetworkRange, _ hints: [NetworkHint]) -> [DoctorCheck] {
    guard !hints.isEmpty else { return [DoctorCheck(name, .ok, "sandboxes get addresses of \(range)")] }
    return hints.map { hint in
      DoctorCheck(
        name, hint.severity == .error ? .missing : .degraded, "\(hint.problem) (sandboxes get addresses of \(range))",
        remedy: hint.remedy)
    }
  }
}

extension NetworkConfiguration {
  /// Names, group and table of one agent of the machine.
  static func of(agent number: Int, _ range: SandboxNetworkRange) throws -> NetworkConfiguration {
    let suffix = number == 0 ? "" : "\(number)"
    var configuration = NetworkConfiguration(
      addressing: try SlotAddressing(
        network: range.network, namespacePrefix: "mrt\(suffix)-", linkPrefix: "mv\(suffix)-"))
    configuration.linkGroup += UInt32(number)
    configuration.tableName = "martlet\(suffix)"
    return configuration
  }
}

extension SandboxNetworks {
  /// - Throws: `host_unavailable` when a route or an address of the host overlaps the range of the sandboxes.
  func requireNoClash() async throws(MartletError) {
    guard let clash = await clashes().first else { return }
    throw MartletError(.hostUnavailable, "\(clash.problem); \(clash.remedy)")
  }
}
