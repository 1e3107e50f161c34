/// Constants that host and guest agent share. The guest agent has its own copy of the numbers it needs (it reads the
/// addresses from the kernel command line); a test compares the two.
package enum GuestContract {
  /// TCP port of the guest agent, the same as that of E2B's envd.
  package static let agentPort = 49_983
  /// Addresses inside the sandbox's network namespace, the same in every sandbox.
  package static let guestAddress = IPv4Address(0xA9FE_0015)  // 169.254.0.21
  package static let gatewayAddress = IPv4Address(0xA9FE_0016)  // 169.254.0.22
  package static let prefixLength = 30
  /// The same in every network namespace, so that a restored guest's neighbour cache stays valid.
  package static let guestMAC = "06:00:ac:10:00:02"
  package static let gatewayMAC = "02:fc:00:00:00:01"
  package static let tapName = "tap0"
  /// Path of the guest agent in every image.
  package static let agentPath = "/usr/local/bin/envd"
}
