/// What a memory snapshot can only be restored on: recorded in every generation, compared before a restore (UF-6).
package struct MachineDescription: Sendable, Codable, Equatable {
  /// `qemu` or `firecracker`.
  package var vmm: String
  /// Full version of the VMM.
  package var vmmVersion: String
  /// Machine type and the order of its devices; changes whenever the driver's command line changes what a guest sees.
  package var machine: String
  /// SHA-256 of the firmware, in hexadecimal; empty where there is none.
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

  /// Why a snapshot of machine `self` cannot be restored on `host`; nil when it can.
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
