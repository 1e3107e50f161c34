/// What `/init`, `/freeze` and `/unfreeze` do to the machine. As process 1 the agent uses `LinuxGuestMachine`;
/// elsewhere it changes nothing, because a developer's machine keeps its name, clock and random state.
package protocol GuestMachine: Sendable {
  /// Sets the wall clock.
  func setClock(_ time: WallClockTime) throws
  /// Mixes secret bytes into the kernel's random state and reseeds it at once, so that clones differ.
  func addEntropy(_ bytes: [UInt8]) throws
  /// Sets the host name in the kernel, in /etc/hostname and in /etc/hosts.
  func setHostname(_ name: String) throws
  /// Writes a new random /etc/machine-id.
  func renewMachineID() throws
  /// Writes dirty data back and freezes all user processes. Returns when they are frozen. Blocks.
  func freeze() throws
  /// Thaws the user processes. Idempotent.
  func thaw() throws
}

/// Changes nothing.
package struct UnmanagedMachine: GuestMachine {
  package init() {}

  package func setClock(_ time: WallClockTime) {}
  package func addEntropy(_ bytes: [UInt8]) {}
  package func setHostname(_ name: String) {}
  package func renewMachineID() {}
  package func freeze() {}
  package func thaw() {}
}
