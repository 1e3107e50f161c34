import Concurrency
import Disks
import Glibc
import Hypervisor
import LinuxSystem
import SystemPackage

extension TestSandbox {
  /// The old disk is known by its later name to the new one, and by its own to the VMM, which opens it once more.
  func switchDisk(from old: Disk, over layer: FilePath) async throws {
    try SystemError.check("link", layer.string) { link(old.path.string, layer.string) }
    let new = try await makeDisk(DiskBase(path: layer, format: .qcow2, digest: old.base.digest))
    try await machine.switchDisk(to: DiskAttachment(path: new.path.string, format: .qcow2))
    state.withLock { $0.disk = new }
  }
}
