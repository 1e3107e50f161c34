import Foundation
import Glibc
import LinuxSystem
package import Logging
package import SystemPackage

/// Determines whether KVM runs guests on this host. An accessible /dev/kvm is no proof: nested or emulated KVM can be
/// too slow to use.
package struct AcceleratorProbe: Sendable {
  /// A kernel without a root file system panics and reboots in well under a second on working KVM.
  private static let deadline: Duration = .seconds(3)
  private static let kernelArguments = "console=ttyS0 quiet panic=-1 reboot=t no_timer_check"
  private static let proof = "Kernel panic"

  /// The cached result, in `cacheFile`; valid for one boot of the host, QEMU version and kernel.
  private struct Verdict: Codable, Equatable {
    var bootID: String
    var qemuVersion: String
    var kernel: String
    var accelerator: Accelerator?
  }

  package let installation: QEMUInstallation
  package let kernel: FilePath
  package let cacheFile: FilePath
  package let logger: Logger

  package init(installation: QEMUInstallation, kernel: FilePath, cacheFile: FilePath, logger: Logger) {
    self.installation = installation
    self.kernel = kernel
    self.cacheFile = cacheFile
    self.logger = logger
  }

  package func run() async -> Accelerator {
    guard access("/dev/kvm", R_OK | W_OK) == 0 else { return .tcg }
    var verdict = Verdict(bootID: bootID, qemuVersion: installation.version, kernel: kernel.string)
    if let cached = readCache(), let accelerator = cached.accelerator {
      var expected = verdict
      expected.accelerator = accelerator
      if cached == expected { return accelerator }
    }
    let accelerator: Accelerator = await guestRunsOnKVM() ? .kvm : .tcg
    logger.info("probed the accelerator", metadata: ["accelerator": "\(accelerator.rawValue)"])
    verdict.accelerator = accelerator
    if let data = try? JSONEncoder().encode(verdict) {
      try? SmallFile.replace(cacheFile, with: [UInt8](data), mode: 0o600)
    }
    return accelerator
  }

  private func guestRunsOnKVM() async -> Bool {
    let arguments = [
      "-nodefaults", "-no-user-config", "-display", "none", "-M", "microvm", "-accel", "kvm", "-cpu", "host", "-m",
      "128M",
      "-bios", installation.firmware.string, "-no-reboot", "-kernel", kernel.string, "-append", Self.kernelArguments,
      "-serial", "stdio",
    ]
    guard let output = try? await Tool.run(installation.executable, arguments, deadline: Self.deadline) else {
      return false
    }
    return output.outputText.contains(Self.proof)
  }

  private var bootID: String {
    ((try? SmallFile.readText("/proc/sys/kernel/random/boot_id")) ?? "").filter { !$0.isWhitespace }
  }

  private func readCache() -> Verdict? {
    guard let bytes = try? SmallFile.read(cacheFile.string) else { return nil }
    return try? JSONDecoder().decode(Verdict.self, from: Data(bytes))
  }
}
