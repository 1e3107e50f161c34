import LinuxSystem
import Logging
import Model

extension SandboxNetworks {
  /// Prepares the host's namespace: loads one nftables table, then enables forwarding. Idempotent; running sandboxes
  /// keep their connections.
  ///
  /// The rules come first, so that forwarding is never on without them. Forwarding stays on after `teardownHost()`,
  /// because other software may have come to depend on it.
  package func prepareHost() async throws(NetworkError) {
    let rules = HostRules(configuration: configuration, resolver: resolver)
    try await perform(command(.loadHostRules, "nft", ["-f", "-"], input: rules.text))
    do {
      try await runner.write([KernelParameter("ipv4/ip_forward", "1")], namespacePath: nil)
    } catch {
      let failure = NetworkError(.failed(.enableForwarding, error))
      throw failure.with(undoFailures: await removeHostRules())
    }
    guard resolver == nil else { return }
    logger.warning("no DNS server that guests can use was found", metadata: ["files": "\(configuration.resolverFiles)"])
  }

  /// Removes the host's table. Idempotent. Sandboxes that still run lose their access to other networks.
  package func teardownHost() async throws(NetworkError) {
    if let error = NetworkError.joined(await removeHostRules()) { throw error }
  }

  private func removeHostRules() async -> [NetworkError] {
    let rules = HostRules(configuration: configuration, resolver: nil)
    do throws(NetworkError) {
      try await perform(command(.removeHostRules, "nft", ["-f", "-"], input: rules.removal))
      return []
    } catch {
      return [error]
    }
  }
}
