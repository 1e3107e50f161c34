import CommandLine
import Images
import Logging
import Model
import QEMU
import SystemPackage

/// Checks which accelerator the server would choose: KVM if QEMU runs a guest on it, otherwise TCG.
enum AcceleratorCheck {
  private static let name = "accelerator"

  static func run(_ options: DoctorOptions) async -> DoctorCheck {
    do {
      let installation = try await QEMUInstallation.find()
      let kernel = try ImageStore(directory: FilePath(options.imageDirectory)).guestKernel().vmlinux
      let cache = FilePath(options.dataDirectory).appending("accelerator.json")
      let logger = Logger(label: "doctor") { _ in SwiftLogNoOpLogHandler() }
      switch await AcceleratorProbe(installation: installation, kernel: kernel, cacheFile: cache, logger: logger).run()
      {
      case .kvm: return DoctorCheck(name, .ok, "QEMU \(installation.version) runs the guest kernel on KVM")
      case .tcg:
        return DoctorCheck(
          name, .degraded, "QEMU \(installation.version) does not run the guest kernel on KVM on this machine",
          remedy: "use a machine with hardware virtualization, and check that its firmware enables it",
          usedInstead: "TCG, an emulator; several times slower")
      }
    } catch {
      return DoctorCheck(name, .degraded, error.message, remedy: "run martlet images, then martlet doctor again")
    }
  }
}
