/// The effects on the machine that `/init`, `/freeze` and `/unfreeze` have. As PID 1 the real ones; elsewhere none,
/// since a developer's machine keeps its name, clock and random state.
package protocol GuestMachine: Sendable {
  /// Sets the wall clock.
  func setClock(_ time: WallClockTime) throws
  /// Mixes secret bytes into the kernel's random state and reseeds it at once, so that clones differ (L-50).
  func addEntropy(_ bytes: [UInt8]) throws
  /// Sets host name, /etc/hostname and its line in /etc/hosts.
  func setHostname(_ name: String) throws
  /// Gives the machine a new /etc/machine-id.
  func renewMachineID() throws
  /// Writes dirty data back and stops all user processes; returns when they stand still. Blocks.
  func freeze() throws
  /// Lets user processes run on. Idempotent.
  func thaw() throws
}

/// Leaves the machine as it is.
package struct UntouchedMachine: GuestMachine {
  package init() {}

  package func setClock(_ time: WallClockTime) {}
  package func addEntropy(_ bytes: [UInt8]) {}
  package func setHostname(_ name: String) {}
  package func renewMachineID() {}
  package func freeze() {}
  package func thaw() {}
}
