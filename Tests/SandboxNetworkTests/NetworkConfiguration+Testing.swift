import Model
import SandboxNetwork
import Testing

extension NetworkConfiguration {
  /// The configuration of the first host agent on a machine: 16,384 slots in 10.200.0.0/16.
  static func standard() throws -> NetworkConfiguration {
    NetworkConfiguration(addressing: try SlotAddressing(network: try #require(IPv4Network("10.200.0.0/16"))))
  }
}
