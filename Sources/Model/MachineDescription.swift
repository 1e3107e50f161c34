/// The properties of a virtual machine that must be equal for a restore. Every generation records them; the host agent
/// compares them before it restores.
package struct MachineDescription: Sendable, Codable, Equatable {
  /// `qemu` or `firecracker`.
  package var vmm: String
  /// Full version of the VMM.
  package var vmmVersion: String
  /// Machine type and order of its devices; changes whenever a change of the VMM's command line is visible to the
  /// guest.
  package var machine: String
  /// SHA-256 of the firmware, in hexadecimal; empty without firmware.
  package var firmwareDigest: String
  package var cpuModel: String
  /// `tcg` or `kvm`.
  package var accelerator: String
  package var pageSizeBytes: Int

  package init(
    vmm: String, vmmVersion: String, machine: String, firmwareDigest: String, cpuModel: String, accelerator: String,
    pageSizeBytes: Int = 4_096
  ) {
    self.vmm = vmm
    self.vmmVersion = vmmVersion
    self.machine = machine
    self.firmwareDigest = firmwareDigest
    self.cpuModel = cpuModel
    self.accelerator = accelerator
    self.pageSizeBytes = pageSizeBytes
  }

  /// Why a generation of machine `self` cannot be restored on `host`; nil if it can.
  package func incompatibility(with host: MachineDescription) -> String? {
    let pairs = [
      ("VMM", vmm, host.vmm), ("VMM version", vmmVersion, host.vmmVersion), ("machine", machine, host.machine),
      ("firmware", firmwareDigest, host.firmwareDigest), ("CPU model", cpuModel, host.cpuModel),
      ("accelerator", accelerator, host.accelerator), ("page size", "\(pageSizeBytes)", "\(host.pageSizeBytes)"),
    ]
    guard let (name, mine, theirs) = pairs.first(where: { $0.1 != $0.2 }) else { return nil }
    return "it was taken with \(name) \(mine), this host has \(theirs)"
  }
}
